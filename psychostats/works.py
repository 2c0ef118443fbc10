"""The works that a report may rest on: software, methods and studies, each a frozen entry.

In: nothing.  Out: entries by key.  A fact that was not certain is left out.  Knows neither BibTeX nor documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["article", "inproceedings", "misc"]

OTHERS = "others"
"""Stands last where a work has more authors than are named."""


@dataclass(frozen=True)
class Entry:
    """A work to refer to.

    Parameters
    ----------
    key
        Its name, in BibTeX and here.
    kind
        Of BibTeX.
    authors
        ``Family, Given``; a group has no comma; `OTHERS` last for those not named.
    title, year
        As published.
    venue
        Journal, or proceedings.
    volume, number, pages, doi, arxiv, url
        As published; empty where there is none.
    version
        Which version was used, of software.
    """

    key: str
    kind: Kind
    authors: tuple[str, ...]
    title: str
    year: int
    venue: str = ""
    volume: str = ""
    number: str = ""
    pages: str = ""
    doi: str = ""
    arxiv: str = ""
    url: str = ""
    version: str = ""


def _article(key: str, authors: str, title: str, year: int, venue: str, volume: str, pages: str, doi: str) -> Entry:
    volume, _, number = volume.partition("/")
    return Entry(key, "article", _people(authors), title, year, venue, volume, number, pages, doi)


def _talk(
    key: str, authors: str, title: str, year: int, venue: str, *, pages: str = "", arxiv: str = "", doi: str = ""
) -> Entry:
    return Entry(key, "inproceedings", _people(authors), title, year, venue, pages=pages, arxiv=arxiv, doi=doi)


def _program(key: str, authors: str, title: str, year: int, url: str = "") -> Entry:
    return Entry(key, "misc", _people(authors), title, year, url=url)


def _people(authors: str) -> tuple[str, ...]:
    return tuple(authors.split("; "))


_NEURIPS = "Advances in Neural Information Processing Systems"
_JSS = "Journal of Statistical Software"

# Methods, by the family name of the first author and the year.
_METHODS = (
    Entry(
        "colin2024",
        "misc",
        _people(
            "Colin, Julien; Goetschalckx, Lore; Fel, Thomas; Boutin, Victor; Gopal, Jay; Serre, Thomas; Oliver, Nuria"
        ),
        "Local vs distributed representations: What is the right basis for interpretability?",
        2024,
        arxiv="2411.03993",
    ),
    _talk(
        "borowski2021",
        "Borowski, Judy; Zimmermann, Roland S.; Schepers, Judith; Geirhos, Robert; Wallis, Thomas S. A.; "
        "Bethge, Matthias; Brendel, Wieland",
        "Exemplary Natural Images Explain CNN Activations Better than State-of-the-Art Feature Visualization",
        2021,
        "International Conference on Learning Representations",
        arxiv="2010.12606",
    ),
    _talk(
        "zimmermann2021",
        "Zimmermann, Roland S.; Borowski, Judy; Geirhos, Robert; Bethge, Matthias; Wallis, Thomas S. A.; "
        "Brendel, Wieland",
        "How Well do Feature Visualizations Support Causal Understanding of CNN Activations?",
        2021,
        _NEURIPS,
        arxiv="2106.12447",
    ),
    _talk(
        "zimmermann2023",
        "Zimmermann, Roland S.; Klein, Thomas; Brendel, Wieland",
        "Scale Alone Does not Improve Mechanistic Interpretability in Vision Models",
        2023,
        _NEURIPS,
        arxiv="2307.05471",
    ),
    _talk(
        "fel2023craft",
        "Fel, Thomas; Picard, Agustin; Béthune, Louis; Boissin, Thibaut; Vigouroux, David; Colin, Julien; "
        "Cadène, Rémi; Serre, Thomas",
        "CRAFT: Concept Recursive Activation FacTorization for Explainability",
        2023,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        arxiv="2211.10154",
    ),
    Entry(
        "fel2023maco",
        "misc",
        _people(
            "Fel, Thomas; Boissin, Thibaut; Boutin, Victor; Picard, Agustin; Novello, Paul; Colin, Julien; "
            "Linsley, Drew; Rousseau, Tom; Cadène, Rémi; others"
        ),
        "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization",
        2023,
        arxiv="2306.06805",
    ),
    _article(
        "hoffman2014",
        "Hoffman, Matthew D.; Gelman, Andrew",
        "The No-U-Turn Sampler: Adaptively Setting Path Lengths in Hamiltonian Monte Carlo",
        2014,
        "Journal of Machine Learning Research",
        "15/47",
        "1593–1623",
        "",
    ),
    _article(
        "vehtari2021",
        "Vehtari, Aki; Gelman, Andrew; Simpson, Daniel; Carpenter, Bob; Bürkner, Paul-Christian",
        "Rank-Normalization, Folding, and Localization: An Improved R-hat for Assessing Convergence of MCMC",
        2021,
        "Bayesian Analysis",
        "16/2",
        "667–718",
        "10.1214/20-BA1221",
    ),
    _article(
        "vehtari2017",
        "Vehtari, Aki; Gelman, Andrew; Gabry, Jonah",
        "Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC",
        2017,
        "Statistics and Computing",
        "27/5",
        "1413–1432",
        "10.1007/s11222-016-9696-4",
    ),
    _article(
        "yao2018",
        "Yao, Yuling; Vehtari, Aki; Simpson, Daniel; Gelman, Andrew",
        "Using Stacking to Average Bayesian Predictive Distributions",
        2018,
        "Bayesian Analysis",
        "13/3",
        "917–1007",
        "10.1214/17-BA1091",
    ),
    _article(
        "lewandowski2009",
        "Lewandowski, Daniel; Kurowicka, Dorota; Joe, Harry",
        "Generating random correlation matrices based on vines and extended onion method",
        2009,
        "Journal of Multivariate Analysis",
        "100/9",
        "1989–2001",
        "10.1016/j.jmva.2009.04.008",
    ),
    _article(
        "kruschke2018",
        "Kruschke, John K.",
        "Rejecting or Accepting Parameter Values in Bayesian Estimation",
        2018,
        "Advances in Methods and Practices in Psychological Science",
        "1/2",
        "270–280",
        "10.1177/2515245918771304",
    ),
    _article(
        "bates2015",
        "Bates, Douglas; Mächler, Martin; Bolker, Ben; Walker, Steve",
        "Fitting Linear Mixed-Effects Models Using lme4",
        2015,
        _JSS,
        "67/1",
        "1–48",
        "10.18637/jss.v067.i01",
    ),
    _article(
        "lenth2016",
        "Lenth, Russell V.",
        "Least-Squares Means: The R Package lsmeans",
        2016,
        _JSS,
        "69/1",
        "1–33",
        "10.18637/jss.v069.i01",
    ),
    _article(
        "searle1980",
        "Searle, S. R.; Speed, F. M.; Milliken, G. A.",
        "Population Marginal Means in the Linear Model: An Alternative to Least Squares Means",
        1980,
        "The American Statistician",
        "34/4",
        "216–221",
        "10.1080/00031305.1980.10483031",
    ),
    _article(
        "steegen2016",
        "Steegen, Sara; Tuerlinckx, Francis; Gelman, Andrew; Vanpaemel, Wolf",
        "Increasing Transparency Through a Multiverse Analysis",
        2016,
        "Perspectives on Psychological Science",
        "11/5",
        "702–712",
        "10.1177/1745691616658637",
    ),
    _article(
        "simonsohn2020",
        "Simonsohn, Uri; Simmons, Joseph P.; Nelson, Leif D.",
        "Specification curve analysis",
        2020,
        "Nature Human Behaviour",
        "4/11",
        "1208–1214",
        "10.1038/s41562-020-0912-z",
    ),
    _article(
        "delgiudice2021",
        "Del Giudice, Marco; Gangestad, Steven W.",
        "A Traveler's Guide to the Multiverse: Promises, Pitfalls, and a Framework for the Evaluation of Analytic "
        "Decisions",
        2021,
        "Advances in Methods and Practices in Psychological Science",
        "4/1",
        "",
        "10.1177/2515245920954925",
    ),
    _article(
        "burkner2017",
        "Bürkner, Paul-Christian",
        "brms: An R Package for Bayesian Multilevel Models Using Stan",
        2017,
        _JSS,
        "80/1",
        "1–28",
        "10.18637/jss.v080.i01",
    ),
    _article(
        "burkner2020",
        "Bürkner, Paul-Christian; Charpentier, Emmanuel",
        "Modelling monotonic effects of ordinal predictors in Bayesian regression models",
        2020,
        "British Journal of Mathematical and Statistical Psychology",
        "73/3",
        "420–451",
        "10.1111/bmsp.12195",
    ),
    _article(
        "kallioinen2024",
        "Kallioinen, Noa; Paananen, Topi; Bürkner, Paul-Christian; Vehtari, Aki",
        "Detecting and diagnosing prior and likelihood sensitivity with power-scaling",
        2024,
        "Statistics and Computing",
        "34",
        "57",
        "10.1007/s11222-023-10366-5",
    ),
    _article(
        "wagenmakers2010",
        "Wagenmakers, Eric-Jan; Lodewyckx, Tom; Kuriyal, Himanshu; Grasman, Raoul",
        "Bayesian hypothesis testing for psychologists: A tutorial on the Savage–Dickey method",
        2010,
        "Cognitive Psychology",
        "60/3",
        "158–189",
        "10.1016/j.cogpsych.2009.12.001",
    ),
    _article(
        "dimitriadis2021",
        "Dimitriadis, Timo; Gneiting, Tilmann; Jordan, Alexander I.",
        "Stable reliability diagrams for probabilistic classifiers",
        2021,
        "Proceedings of the National Academy of Sciences",
        "118/8",
        "e2016191118",
        "10.1073/pnas.2016191118",
    ),
    _article(
        "liang1986",
        "Liang, Kung-Yee; Zeger, Scott L.",
        "Longitudinal data analysis using generalized linear models",
        1986,
        "Biometrika",
        "73/1",
        "13–22",
        "10.1093/biomet/73.1.13",
    ),
    _article(
        "lee1999",
        "Lee, Daniel D.; Seung, H. Sebastian",
        "Learning the parts of objects by non-negative matrix factorization",
        1999,
        "Nature",
        "401",
        "788–791",
        "10.1038/44565",
    ),
    _article(
        "gelman2014",
        "Gelman, Andrew; Carlin, John",
        "Beyond Power Calculations: Assessing Type S (Sign) and Type M (Magnitude) Errors",
        2014,
        "Perspectives on Psychological Science",
        "9/6",
        "641–651",
        "10.1177/1745691614551642",
    ),
    _article(
        "green2016",
        "Green, Peter; MacLeod, Catriona J.",
        "SIMR: an R package for power analysis of generalized linear mixed models by simulation",
        2016,
        "Methods in Ecology and Evolution",
        "7/4",
        "493–498",
        "10.1111/2041-210X.12504",
    ),
    _article(
        "westfall2014",
        "Westfall, Jacob; Kenny, David A.; Judd, Charles M.",
        "Statistical power and optimal design in experiments in which samples of participants respond to samples of "
        "stimuli",
        2014,
        "Journal of Experimental Psychology: General",
        "143/5",
        "2020–2045",
        "10.1037/xge0000014",
    ),
    _article(
        "wilson1927",
        "Wilson, Edwin B.",
        "Probable inference, the law of succession, and statistical inference",
        1927,
        "Journal of the American Statistical Association",
        "22/158",
        "209–212",
        "10.1080/01621459.1927.10502953",
    ),
)

# Software, by the name of its distribution; the paper that its authors ask for, where there is one.
_SOFTWARE = (
    # Programs without a paper have the author and the year of their licence.
    _program(
        "psychostats",
        "psychostats contributors",
        "psychostats: hierarchical Bayesian psychophysics in Python",
        2026,
    ),
    _article(
        "pymc",
        "Abril-Pla, Oriol; Andreani, Virgile; Carroll, Colin; Dong, Larry; Fonnesbeck, Christopher J.; "
        "Kochurov, Maxim; Kumar, Ravin; Lao, Junpeng; Luhmann, Christian C.; Martin, Osvaldo A.; Osthege, Michael; "
        "Vieira, Ricardo; Wiecki, Thomas; Zinkov, Robert",
        "PyMC: a modern, and comprehensive probabilistic programming framework in Python",
        2023,
        "PeerJ Computer Science",
        "9",
        "e1516",
        "10.7717/peerj-cs.1516",
    ),
    _article(
        "arviz",
        "Kumar, Ravin; Carroll, Colin; Hartikainen, Ari; Martin, Osvaldo",
        "ArviZ a unified library for exploratory analysis of Bayesian models in Python",
        2019,
        "Journal of Open Source Software",
        "4/33",
        "1143",
        "10.21105/joss.01143",
    ),
    _program(
        "nutpie",
        "Seyboldt, Adrian; PyMC Developers",
        "nutpie: a fast sampler for Bayesian posteriors",
        2022,
        "https://github.com/pymc-devs/nutpie",
    ),
    _talk(
        "statsmodels",
        "Seabold, Skipper; Perktold, Josef",
        "statsmodels: Econometric and statistical modeling with Python",
        2010,
        "Proceedings of the 9th Python in Science Conference",
    ),
    _program(
        "plotnine",
        "Kibirige, Hassan",
        "plotnine: a grammar of graphics for Python",
        2022,
        "https://github.com/has2k1/plotnine",
    ),
    _talk(
        "pandas",
        "McKinney, Wes",
        "Data Structures for Statistical Computing in Python",
        2010,
        "Proceedings of the 9th Python in Science Conference",
        pages="56–61",
        doi="10.25080/Majora-92bf1922-00a",
    ),
    _article(
        "numpy",
        "Harris, Charles R.; Millman, K. Jarrod; van der Walt, Stéfan J.; Gommers, Ralf; Virtanen, Pauli; "
        "Cournapeau, David; others",
        "Array programming with NumPy",
        2020,
        "Nature",
        "585",
        "357–362",
        "10.1038/s41586-020-2649-2",
    ),
    _article(
        "scipy",
        "Virtanen, Pauli; Gommers, Ralf; Oliphant, Travis E.; Haberland, Matt; Reddy, Tyler; Cournapeau, David; others",
        "SciPy 1.0: Fundamental Algorithms for Scientific Computing in Python",
        2020,
        "Nature Methods",
        "17",
        "261–272",
        "10.1038/s41592-019-0686-2",
    ),
    _article(
        "xarray",
        "Hoyer, Stephan; Hamman, Joe",
        "xarray: N-D labeled Arrays and Datasets in Python",
        2017,
        "Journal of Open Research Software",
        "5/1",
        "10",
        "10.5334/jors.148",
    ),
    _article(
        "matplotlib",
        "Hunter, John D.",
        "Matplotlib: A 2D Graphics Environment",
        2007,
        "Computing in Science & Engineering",
        "9/3",
        "90–95",
        "10.1109/MCSE.2007.55",
    ),
    _talk(
        "torch",
        "Paszke, Adam; Gross, Sam; Massa, Francisco; Lerer, Adam; Bradbury, James; Chanan, Gregory; others",
        "PyTorch: An Imperative Style, High-Performance Deep Learning Library",
        2019,
        _NEURIPS,
        arxiv="1912.01703",
    ),
)

ENTRIES: Mapping[str, Entry] = {entry.key: entry for entry in (*_METHODS, *_SOFTWARE)}
"""All works by key: methods, then software."""

PROGRAMS = tuple(entry.key for entry in _SOFTWARE)
"""Keys of the software, which are the names of its distributions."""
