# Reference fits: Rscript fits.R, from this folder; writes fits.json. See README.md for what each entry holds.
source("common.R")
suppressPackageStartupMessages(library(glmmTMB))

cases <- list(
  slopes3 = list("slopes3.csv", "correct ~ condition + (1 + condition | participant)"),
  slopes3_intercept = list("slopes3.csv", "correct ~ condition + (1 | participant)"),
  crossed3 = list("crossed3.csv", "correct ~ representation * depth + (1 + representation | participant) + (1 | pair) + (1 | image)"),
  crossed3_additive = list("crossed3.csv", "correct ~ representation + depth + (1 + representation | participant) + (1 | pair) + (1 | image)"),
  crossed3_intercepts = list("crossed3.csv", "correct ~ representation * depth + (1 | participant) + (1 | pair) + (1 | image)"),
  nested = list("nested.csv", "cbind(successes, failures) ~ x + (1 | batch/cask)"),
  nested_offset = list("nested.csv", "cbind(successes, failures) ~ x + offset(known) + (1 | batch/cask)"),
  few = list("few.csv", "correct ~ representation * depth + (1 + representation * depth | participant)"),
  few_intercept = list("few.csv", "correct ~ representation * depth + (1 | participant)"),
  terms_sum = list("terms.csv", "correct ~ C(f, sum) * x + (1 | participant)"),
  terms_sdif = list("terms.csv", "correct ~ C(f, sdif) + z + (1 | participant)"),
  terms_poly = list("terms.csv", "correct ~ poly(x, 2) + f + (1 | participant)"),
  terms_bs = list("terms.csv", "correct ~ bs(x, df = 4) + g + (1 | participant)"),
  terms_poly_f = list("terms.csv", "correct ~ poly(x, 2) * f + (1 | participant)"),
  terms_fgx = list("terms.csv", "correct ~ f * g * x + (1 | participant)"),
  terms_offset = list("terms.csv", "correct ~ f + x + offset(known) + (1 | participant)"),
  terms_slopes = list("terms.csv", "correct ~ f + x + (1 + x | participant)"),
  terms_uncorrelated = list("terms.csv", "correct ~ f + x + (1 + x || participant)"),
  terms_block = list("terms.csv", "correct ~ f * x + (1 | participant) + (1 | block)"),
  terms_noblock = list("terms.csv", "correct ~ f * x + (1 | participant)"),
  terms_probit = list("terms.csv", "correct ~ f * x + (1 + x | participant)", "probit"),
  gaussian_ml = list("gaussian.csv", "y ~ C(f, sdif) * x + (1 + x | participant) + (1 | item)", REML = FALSE),
  gaussian_reml = list("gaussian.csv", "y ~ C(f, sdif) * x + (1 + x | participant) + (1 | item)", REML = TRUE),
  gaussian_sum_ml = list("gaussian.csv", "y ~ C(f, sum) * x + (1 + x | participant) + (1 | item)", REML = FALSE),
  gaussian_sum_reml = list("gaussian.csv", "y ~ C(f, sum) * x + (1 + x | participant) + (1 | item)", REML = TRUE)
)

# glmmTMB from its default start, then restarted; its covariances read from its own report.
by_glmmTMB <- function(text, data, family, REML) {
  control <- glmmTMBControl(optCtrl = list(iter.max = 5000, eval.max = 5000, rel.tol = 1e-15, x.tol = 1e-12, sing.tol = 1e-15))
  # glmmTMB 1.1.5 has no `||`: the same model with one term a coefficient.
  text <- gsub("(1 + x || participant)", "(1 | participant) + (0 + x | participant)", text, fixed = TRUE)
  m <- suppressWarnings(glmmTMB(formula_of(text), data, family = family, REML = REML, control = control))
  se <- suppressWarnings(sqrt(diag(vcov(m)$cond)))
  sds <- list()
  for (i in seq_along(VarCorr(m)$cond)) {
    block <- VarCorr(m)$cond[[i]]
    group <- sub("\\.[0-9]+$", "", names(VarCorr(m)$cond)[i])
    sds[[group]] <- c(sds[[group]], as.list(attr(block, "stddev")))
  }
  list(
    logLik = -m$fit$objective, fixef = named(fixef(m)$cond, names(fixef(m)$cond)), se = named(se, names(fixef(m)$cond)), sd = sds,
    sigma = if (family$family == "gaussian") sigma(m) else NULL, max_gradient = max(abs(m$obj$gr(m$fit$par))), pdHess = m$sdr$pdHess
  )
}

results <- list(
  "_about" = paste(
    "lme4 fits of SIMULATED data at tight settings (see README.md); glmmTMB's answer to the same model is under 'glmmTMB' with the largest",
    "absolute differences under 'differences'. 'written_out' is the hand-written Laplace approximation's log-likelihood at the same parameters.",
    "Names are R's. Factor levels sort by code point, first is reference, except representation: local, distributed."
  )
)
for (name in names(cases)) {
  case <- cases[[name]]
  text <- case[[2]]
  d <- read_data(case[[1]])
  gaussian_case <- !is.null(case$REML)
  link <- if (gaussian_case) "identity" else if (length(case) > 2) case[[3]] else "logit"
  family <- if (gaussian_case) gaussian() else binomial(link)
  t <- if (gaussian_case) tight_lmer(formula_of(text), d, case$REML) else tight_glmer(formula_of(text), d, family)
  fit <- report_fit(t)
  entry <- c(list(data = case[[1]], formula = text, formula_r = text, family = family$family, link = link), fit)
  if (!gaussian_case) {
    own <- laplace_of(t$parts, link = link)
    own$deviance(t$par)
    entry$written_out <- own$state(t$par)$logLik
    entry$lme4_logLik <- as.numeric(logLik(t$model)) # as lme4 has it at the same parameters
    entry$lme4_default <- list( # what glmer says with nothing set
      logLik = as.numeric(logLik(untouched <- suppressMessages(suppressWarnings(glmer(formula_of(text), d, family))))),
      fixef = named(fixef(untouched), names(fixef(untouched))), se = named(sqrt(diag(vcov(untouched))), names(fixef(untouched)))
    )
  }
  other <- by_glmmTMB(text, d, family, isTRUE(case$REML))
  entry$glmmTMB <- other
  entry$differences <- list(
    logLik = abs(other$logLik - fit$logLik), fixef = largest(fit$fixef, other$fixef), se = largest(fit$se, other$se),
    sd = max(vapply(names(fit$VarCorr), function(g) largest(fit$VarCorr[[g]]$sd, other$sd[[g]]), 0)),
    written_out = if (gaussian_case) NULL else abs(entry$written_out - entry$lme4_logLik)
  )
  results[[name]] <- entry
  cat(sprintf("%-22s %.9f singular=%s grad=%.1e | TMB: %s\n", name, fit$logLik, fit$singular, fit$gradient_per_se,
              paste(names(entry$differences), sprintf("%.1e", unlist(entry$differences)), collapse = " ")))
  write_out(results, "fits.json")
}
