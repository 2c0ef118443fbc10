# Estimated marginal means from the tight fits: Rscript emmeans.R, from this folder; writes emmeans.json.
source("common.R")
suppressPackageStartupMessages(library(emmeans))
emm_options(lmer.df = "asymptotic", msg.interaction = FALSE, msg.nesting = FALSE)

# One list of rows; `as.data.frame` of a summary, names as emmeans gives them.
rows <- function(object, ...) {
  table <- as.data.frame(suppressMessages(summary(object, infer = c(TRUE, TRUE), ...)))
  lapply(seq_len(nrow(table)), function(i) {
    row <- as.list(table[i, , drop = FALSE])
    row <- lapply(row, function(x) if (is.factor(x)) type.convert(as.character(x), as.is = TRUE) else x)
    names(row) <- sub("^asymp\\.", "", names(row))
    row[names(row) != "df"]
  })
}
adjustments <- c("none", "tukey", "bonferroni", "holm", "sidak", "mvt")
everything <- function(object, vcov, methods = c("pairwise", "trt.vs.ctrl", "eff", "consec"), glm = TRUE) {
  out <- list(link = rows(object))
  if (glm) out$response <- rows(object, type = "response")
  for (method in methods) {
    set.seed(1) # mvt's limits are by quasi-Monte Carlo
    made <- contrast(object, method)
    out$contrasts[[method]] <- list(link = rows(made, adjust = "none"))
    if (glm && method != "eff") out$contrasts[[method]]$response <- rows(made, type = "response", adjust = "none")
  }
  made <- contrast(object, "pairwise")
  for (adjust in adjustments) {
    set.seed(1)
    out$adjusted[[adjust]] <- rows(made, adjust = adjust)
  }
  if (glm) {
    out$adjusted_response$tukey <- rows(made, adjust = "tukey", type = "response")
    made <- regrid(object, "response")
    out$regrid <- list(means = rows(made), pairs = rows(contrast(made, "pairwise"), adjust = "none"))
  }
  out
}
results <- list("_about" = paste(
  "emmeans (asymptotic) on tight fits of SIMULATED data, vcov. = the tight vcov of fits.json. Per analysis: link and response means; contrasts by",
  "method (adjust none); pairwise contrasts under every adjustment (holm has no limits of its own: emmeans gives Bonferroni's);",
  "regrid: means and differences of probabilities. Each is a list of rows with emmeans' names."
))
start <- function(name, file, text, gaussian = NULL) {
  d <<- read_data(file)
  if (is.null(gaussian)) tight_glmer(formula_of(text), d) else tight_lmer(formula_of(text), d, gaussian)
}
mean_of <- function(t, specs, ...) emmeans(t$model, specs, vcov. = t$vcov, data = d, ...)

t <- start("slopes3", "slopes3.csv", "correct ~ condition + (1 + condition | participant)")
results$slopes3 <- list(
  fit = "slopes3", formula = "correct ~ condition + (1 + condition | participant)", data = "slopes3.csv",
  analyses = list(condition = c(list(specs = "condition"), everything(mean_of(t, ~condition), t$vcov, c("pairwise", "trt.vs.ctrl", "eff", "consec", "poly"))))
)
write_out(results, "emmeans.json")

t <- start("crossed3", "crossed3.csv", "correct ~ representation * depth + (1 + representation | participant) + (1 | pair) + (1 | image)")
points <- list(depth = c(0, .5, 1))
by_depth <- mean_of(t, ~ representation | depth, at = points)
joint <- mean_of(t, ~ representation * depth, at = points)
trends <- emtrends(t$model, ~representation, var = "depth", vcov. = t$vcov, data = d)
results$crossed3 <- list(
  fit = "crossed3", formula = "correct ~ representation * depth + (1 + representation | participant) + (1 | pair) + (1 | image)", data = "crossed3.csv",
  mean_depth = mean(d$depth),
  analyses = list(
    representation = c(list(specs = "representation", note = "depth at its mean"), everything(mean_of(t, ~representation), t$vcov, "pairwise")),
    representation_by_depth = c(list(specs = "representation | depth", at = points), everything(by_depth, t$vcov, "pairwise")),
    joint = c(list(specs = "representation * depth", at = points), everything(joint, t$vcov, "pairwise")),
    emtrends = list(specs = "representation", var = "depth", trends = rows(trends), pairs = rows(contrast(trends, "pairwise"), adjust = "none")),
    interaction = list(specs = "representation * depth", at = points, note = "pairwise differences between depths of the representations' differences",
                       contrasts = rows(contrast(joint, interaction = c("revpairwise", "revpairwise")), adjust = "none"))
  )
)
write_out(results, "emmeans.json")

t <- start("terms_fgx", "terms.csv", "correct ~ f * g * x + (1 | participant)")
some <- list(x = c(-1, 0, 1))
results$terms_fgx <- list(
  fit = "terms_fgx", formula = "correct ~ f * g * x + (1 | participant)", data = "terms.csv", mean_x = mean(d$x),
  analyses = list(
    f_equal = c(list(specs = "f", weights = "equal"), everything(mean_of(t, ~f, weights = "equal"), t$vcov, c("pairwise", "trt.vs.ctrl", "eff", "consec", "poly"))),
    f_proportional = c(list(specs = "f", weights = "proportional"), everything(mean_of(t, ~f, weights = "proportional"), t$vcov)),
    g = c(list(specs = "g", weights = "equal"), everything(mean_of(t, ~g), t$vcov, "pairwise")),
    f_by_g = c(list(specs = "f | g"), everything(mean_of(t, ~ f | g), t$vcov)),
    joint = c(list(specs = "f * g"), everything(mean_of(t, ~ f * g), t$vcov, c("pairwise", "eff"))),
    f_by_x = c(list(specs = "f | x", at = some), everything(mean_of(t, ~ f | x, at = some), t$vcov)),
    emtrends = (function(trends) list(specs = "f", var = "x", trends = rows(trends), pairs = rows(contrast(trends, "pairwise"), adjust = "none"),
                                      pairs_tukey = rows(contrast(trends, "pairwise"), adjust = "tukey")))(
      emtrends(t$model, ~f, var = "x", vcov. = t$vcov, data = d))
  )
)
write_out(results, "emmeans.json")

# emmeans would take `sdif` in C(f, sdif) for a variable: the factor carries the coding instead, which is the same model.
for (REML in c(TRUE, FALSE)) {
  d <- read_data("gaussian.csv")
  contrasts(d$f) <- contr.sdif(3)
  t <- tight_lmer(formula_of("y ~ f * x + (1 + x | participant) + (1 | item)"), d, REML)
  name <- if (REML) "gaussian_reml" else "gaussian_ml"
  trends <- emtrends(t$model, ~f, var = "x", vcov. = t$vcov, data = d)
  results[[name]] <- list(
    fit = name, formula = "y ~ C(f, sdif) * x + (1 + x | participant) + (1 | item)", data = "gaussian.csv", mean_x = mean(d$x),
    analyses = list(
      f = c(list(specs = "f"), everything(mean_of(t, ~f), t$vcov, c("pairwise", "trt.vs.ctrl", "eff", "consec", "poly"), glm = FALSE)),
      f_by_x = c(list(specs = "f | x", at = some), everything(mean_of(t, ~ f | x, at = some), t$vcov, glm = FALSE)),
      emtrends = list(specs = "f", var = "x", trends = rows(trends), pairs = rows(contrast(trends, "pairwise"), adjust = "none"))
    )
  )
}
write_out(results, "emmeans.json")
