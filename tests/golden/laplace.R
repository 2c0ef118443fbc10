# Laplace maximum likelihood written out by hand (common.R: observed Hessian in the determinant): Rscript laplace.R; writes laplace.json.
source("common.R")
formula_afc <- "correct ~ representation * depth + (1 + representation | participant) + (1 | pair)"
results <- list("_about" = paste(
  "Hand-written dense Laplace maximum likelihood on SIMULATED data. p = guess + (1 - guess - lapse) F(eta); determinant of the observed Hessian.",
  "'mode_sd' is the conditional SD from that Hessian. glmer_mafc is glmer's own answer with a custom link, which uses expected weights: a",
  "registered disagreement, not a reference. Names are R's."
))
cases <- list(
  afc_logit = list("afc.csv", formula_afc, "logit", .5, 0),
  afc_probit = list("afc.csv", formula_afc, "probit", .5, 0),
  afc_lapse = list("afc.csv", formula_afc, "logit", .5, .02),
  afc_third = list("afc.csv", formula_afc, "logit", 1 / 3, 0),
  afc_intercept = list("afc.csv", "correct ~ representation + (1 | participant)", "logit", .5, 0),
  terms_probit = list("terms.csv", "correct ~ f * x + (1 + x | participant)", "probit", 0, 0),
  nested_probit = list("nested.csv", "cbind(successes, failures) ~ x + offset(known) + (1 | batch/cask)", "probit", 0, 0),
  slopes3 = list("slopes3.csv", "correct ~ condition + (1 + condition | participant)", "logit", 0, 0),
  crossed3 = list("crossed3.csv", "correct ~ representation * depth + (1 + representation | participant) + (1 | pair) + (1 | image)", "logit", 0, 0),
  nested_offset = list("nested.csv", "cbind(successes, failures) ~ x + offset(known) + (1 | batch/cask)", "logit", 0, 0)
)
for (name in names(cases)) {
  case <- cases[[name]]
  d <- read_data(case[[1]])
  g <- glFormula(formula_of(case[[2]]), d, binomial(case[[3]]))
  plain <- suppressWarnings(glm.fit(g$X, model.response(g$fr), family = binomial(case[[3]]), offset = if (is.null(model.offset(g$fr))) rep(0, nrow(g$X)) else model.offset(g$fr)))
  starts <- list(c(ifelse(g$reTrms$lower == 0, .6, 0), plain$coefficients), c(ifelse(g$reTrms$lower == 0, 1, -.3), 2 * plain$coefficients))
  fits <- lapply(starts, function(start) fit_laplace(g, as.numeric(start), case[[4]], case[[5]], case[[3]]))
  best <- which.max(vapply(fits, function(fit) fit$logLik, 0))
  results[[name]] <- c(
    list(data = case[[1]], formula = case[[2]], family = if (case[[4]] > 0) "afc" else "binomial", link = case[[3]], guess = case[[4]], lapse = case[[5]]),
    fits[[best]], list(starts_differ = abs(fits[[1]]$logLik - fits[[2]]$logLik))
  )
  cat(sprintf("%-16s %.9f starts differ %.1e gradient %.1e sd %s\n", name, fits[[best]]$logLik, results[[name]]$starts_differ, fits[[best]]$gradient_per_se,
              paste(round(fits[[best]]$theta, 4), collapse = " ")))
  write_out(results, "laplace.json")
}

# Against lme4 and glmmTMB, found by their own optimisers.
fits <- fromJSON("fits.json", simplifyVector = TRUE)
results$checks <- lapply(setNames(nm = c("slopes3", "crossed3", "nested_offset", "terms_probit")), function(name) {
  one <- function(other) list(
    logLik = abs(results[[name]]$logLik - other$logLik), fixef = largest(results[[name]]$fixef, other$fixef), se = largest(results[[name]]$se, other$se),
    sd = max(vapply(names(results[[name]]$VarCorr), function(g) {
      sds <- if (is.null(other$sd)) other$VarCorr[[g]]$sd else other$sd[[g]]
      largest(results[[name]]$VarCorr[[g]]$sd, sds)
    }, 0))
  )
  list(lme4 = one(fits[[name]]), glmmTMB = one(fits[[name]]$glmmTMB))
})
str(results$checks)

# glmer with the guess rate in a custom link.
mafc <- function(guess, lapse = 0) structure(list(
  linkfun = function(mu) qlogis(pmin(pmax((mu - guess) / (1 - guess - lapse), 1e-3), 1 - 1e-3)),
  linkinv = function(eta) guess + (1 - guess - lapse) * plogis(eta),
  mu.eta = function(eta) (1 - guess - lapse) * plogis(eta) * plogis(-eta),
  valideta = function(eta) TRUE, name = "mafc"
), class = "link-glm")
for (name in c("afc_logit", "afc_lapse")) {
  case <- cases[[name]]
  d <- read_data(case[[1]])
  t <- tryCatch(tight_glmer(formula_of(formula_afc), d, binomial(mafc(.5, case[[5]])), tolPwrss = 1e-12), error = function(e) conditionMessage(e))
  if (is.character(t)) {
    results[[paste0("glmer_mafc_", name)]] <- list(error = t)
    print(t)
    next
  }
  fit <- report_fit(t, modes = FALSE)
  fit$logLik_with_observed_Hessian_here <- laplace_of(t$parts, .5, case[[5]])$state(t$par)$logLik
  fit$logLik_of_the_reference <- results[[name]]$logLik
  at_reference <- c(results[[name]]$theta, unlist(results[[name]]$fixef))
  fit$glmer_logLik_at_the_reference <- -t$devfun(at_reference) / 2
  fit$differences <- list(fixef = largest(fit$fixef, results[[name]]$fixef), se = largest(fit$se, results[[name]]$se))
  results[[paste0("glmer_mafc_", name)]] <- c(list(data = case[[1]], formula = formula_afc, guess = .5, lapse = case[[5]]), fit)
  str(fit[c("logLik", "logLik_with_observed_Hessian_here", "logLik_of_the_reference", "glmer_logLik_at_the_reference", "differences", "fixef", "se", "VarCorr")])
}
write_out(results, "laplace.json")
