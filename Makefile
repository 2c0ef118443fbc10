# Two commands on a fresh machine: make report, make test. Each sets up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
STUDY := data/studies/colin2024.toml
TRIALS := data/colin2024_simulated/trials.csv
REPORT := reports/colin2024_simulated
FEATURES := reports/colin2024_features
SHOWN := reports/colin2024_trials/trials.csv
WHOLE := reports/colin2024_study
# What the tests of a file share is made once; in the order of files, or the slow ones of few tests come last.
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: .venv report features study test mutations data lint benchmark calibration oracle clean

# constraints.txt pins torch for Python 3.11 only; elsewhere asking for it brings gigabytes, and its tests skip.
EXTRAS = $$($(BIN)/python -c 'import sys; print("dev,features" if sys.version_info < (3, 12) else "dev")')

# The stamp is written last, so that an interrupted set-up is not taken for a finished one.
.venv/ready: pyproject.toml constraints.txt $(wildcard psychostats/*.c psychostats/*.h)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

.venv: .venv/ready

report: .venv/ready
	$(BIN)/psychostats report $(TRIALS) --study $(STUDY) --out $(REPORT)

# The features of the embedded study: a network is trained, which takes minutes; an interrupted run goes on.
features: .venv/ready
	$(BIN)/featurecompute compute $(STUDY) --out $(FEATURES) --resume
	$(BIN)/featurecompute inspect $(FEATURES)

# The whole study: features and stimuli of a network, simulated people who are shown them, the analysis, the report.
study: .venv/ready
	$(BIN)/featurecompute compute $(STUDY) --out $(FEATURES) --resume
	$(BIN)/psychostats simulate --study $(STUDY) --run $(FEATURES) --out $(SHOWN)
	$(BIN)/psychostats report $(SHOWN) --study $(STUDY) --run $(FEATURES) --out $(WHOLE)

test: .venv/ready
	$(BIN)/python -m pytest -n 2 $(BY_FILE)

# Does the suite see a wrong number? Plants faults in a copy, one at a time; takes a while.
mutations: .venv/ready
	$(BIN)/python tests/mutations.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The embedded study, made anew from its study file; the committed files are exactly this.
data: .venv/ready
	$(BIN)/psychostats simulate --study $(STUDY) --out $(TRIALS)

benchmark: .venv/ready
	$(BIN)/python tests/benchmarks/benchmark_report.py

# Is the posterior right? Replications that the stored files have already are not made again; delete one to make it anew.
# WORKERS=N or SCHEDULER=ADDRESS: several at once, the same files.
calibration: .venv/ready
	$(BIN)/python tests/calibration/calibrate.py $(if $(WORKERS),--workers $(WORKERS)) $(if $(SCHEDULER),--scheduler $(SCHEDULER))

# Do the engines agree? PyMC's side, 50,000 draws a design; files that are there already are not made again.
oracle: .venv/ready
	$(BIN)/python tests/oracle/oracle.py

clean:
	rm -rf .venv build *.egg-info
