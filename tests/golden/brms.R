# Posteriors by brms (Stan) under priors that are the package's, each stated: Rscript brms.R, from this folder (needs a C++ compiler, for remaking
# only); writes brms.json after every model. BRMS_CACHE, where set, is a folder that keeps the fits, so that an interruption loses none.
source("common.R")
suppressPackageStartupMessages({
  library(brms)
  library(posterior)
})
cache <- Sys.getenv("BRMS_CACHE", tempdir())
chosen <- commandArgs(TRUE) # names of models; none is all

logit <- c("b_Intercept ~ normal(0, 1.5)", "b ~ normal(0, 1)", "sd ~ exponential(2)", "cor ~ lkj(2)")
scaled <- c("b_Intercept ~ student_t(3, 0, 2.5)", logit[-1]) # thresholds
log_time <- c("b_Intercept ~ normal(0, 1)", "b ~ normal(0, 0.5)", "sd ~ exponential(3)", "cor ~ lkj(2)", "sigma ~ exponential(1)")
slopes <- "representation * depth + (1 + representation | participant)"
model <- function(data, formula, family, link, priors, guess = NULL, lapse = NULL, disc = NULL) {
  list(data = data, formula = formula, family = family, link = link, guess = guess, lapse = lapse, disc = disc, priors = priors)
}
models <- list(
  bernoulli_crossed = model("crossed3.csv", paste("correct ~", slopes, "+ (1 + representation | pair)"), "bernoulli", "logit", logit, 0),
  afc_half = model("afc.csv", paste("correct ~", slopes, "+ (1 | pair)"), "bernoulli", "logit", logit, .5),
  afc_lapse = model("afc.csv", paste("correct ~", slopes, "+ (1 | pair)"), "bernoulli", "logit", c(logit, "lapse ~ beta(1, 10)"), .5, "estimate"),
  cumulative_logit = model("confidence.csv", paste("confidence ~", slopes), "cumulative", "logit", scaled),
  cumulative_probit = model("confidence.csv", "confidence ~ representation * depth + (1 | participant) + (1 | pair)", "cumulative", "probit", scaled[-4]),
  cumulative_unequal = model(
    "confidence.csv", "confidence ~ representation * depth + (1 | participant) + (1 | pair)", "cumulative", "probit",
    c(scaled[-4], "b_disc_representation_distributed ~ normal(0, 1)"), disc = "0 + representation_distributed"
  ),
  shifted_lognormal = model("confidence.csv", paste("rt ~", slopes), "shifted_lognormal", "identity", c(log_time, "ndt ~ uniform(0, 0.452)")),
  lognormal = model("confidence.csv", paste("rt ~", slopes), "lognormal", "identity", log_time),
  gaussian_slopes = model(
    "gaussian.csv", "y ~ f * x + (1 + x | participant) + (1 | item)", "gaussian", "identity",
    c("b_Intercept ~ normal(0, 2.5)", "b ~ normal(0, 1)", "sd ~ exponential(1)", "cor ~ lkj(2)", "sigma ~ exponential(1)")
  ),
  monotonic = model(
    "confidence.csv", "correct ~ representation * mo(layer) + (1 | participant)", "bernoulli", "logit",
    c(
      logit[-4], "bsp_molayer ~ normal(0, 0.25)", "bsp_molayer:representationdistributed ~ normal(0, 0.25)", "simo_molayer1 ~ dirichlet(1)",
      "simo_molayer:representationdistributed1 ~ dirichlet(1)"
    ), 0
  )
)

# The model in brms's words. `0 + Intercept` and `center = FALSE` keep it from centring the predictors.
half <- function(m) identical(m$guess, .5)
formula_in_brms <- function(m) {
  if (m$family == "cumulative") {
    out <- bf(m$formula, center = FALSE)
    return(if (is.null(m$disc)) out else out + lf(paste("disc ~", m$disc)))
  }
  eta <- sub("~ ", "~ 0 + Intercept + ", m$formula)
  if (!half(m)) return(bf(eta))
  eta <- formula_of(sub("correct", "eta", eta))
  if (is.null(m$lapse)) bf(correct ~ .5 + .5 * inv_logit(eta), eta, nl = TRUE) else bf(correct ~ .5 + (.5 - lapse) * inv_logit(eta), eta, lapse ~ 1, nl = TRUE)
}
family_in_brms <- function(m) brmsfamily(m$family, if (half(m)) "identity" else m$link)
prior_in_brms <- function(text, m) {
  target <- sub(" ~ .*", "", text)
  law <- sub(".* ~ ", "", text)
  nlpar <- if (half(m)) "eta" else ""
  if (target == "lapse") return(set_prior(law, "b", nlpar = "lapse", lb = 0, ub = .5))
  if (target == "b_Intercept" && m$family == "cumulative") return(set_prior(law, "Intercept"))
  if (startsWith(target, "b_disc_")) return(set_prior(law, "b", sub("b_disc_", "", target), dpar = "disc"))
  if (target == "cor") return(set_prior(law, "cor"))
  set_prior(law, sub("bsp", "b", sub("_.*", "", target)), if (grepl("_", target)) sub("^[a-z]*_", "", target) else "", nlpar = if (grepl("^(b|sd)", target)) nlpar else "")
}
data_for <- function(m) {
  d <- read_data(m$data)
  if ("layer" %in% names(d)) d$layer <- factor(d$layer, ordered = TRUE)
  if (!is.null(m$disc)) d$representation_distributed <- as.integer(d$representation == "distributed")
  d
}
formula_text <- function(f) {
  parts <- c(list(f$formula), f$pforms)
  paste(vapply(parts, function(p) paste(trimws(deparse(p, width.cutoff = 500)), collapse = " "), ""), collapse = "; ")
}
ours <- function(name) { # a non-linear predictor's names, without it
  name <- sub("^b_lapse_Intercept$", "lapse", sub("^b_eta_", "b_", name))
  gsub("__eta(_|\\[)", ifelse(startsWith(name, "r_"), "\\1", "__"), name)
}
summary_of <- function(fit) {
  draws <- as_draws_array(fit)
  draws <- subset_draws(draws, grep("^(b|bsp|sd|cor|r|simo)_|^(sigma|ndt)$", variables(draws), value = TRUE))
  s <- as.data.frame(summarise_draws(draws, mean, sd, mcse_mean, mcse_sd, ess_bulk, ess_tail, rhat))
  terms <- lapply(seq_len(nrow(s)), function(i) {
    kept <- c("mean", "sd", "mcse_mean", "mcse_sd", if (!startsWith(s$variable[i], "r_")) c("ess_bulk", "rhat"))
    named(s[i, kept], kept)
  })
  divergent <- sum(subset(nuts_params(fit), Parameter == "divergent__")$Value)
  list(
    draws = ndraws(draws), divergences = divergent, max_rhat = max(s$rhat), min_ess_bulk = min(s$ess_bulk), min_ess_tail = min(s$ess_tail),
    converged = divergent == 0 && max(s$rhat) < 1.01, terms = setNames(terms, vapply(s$variable, ours, ""))
  )
}

results <- list("_about" = paste(
  "Posteriors of SIMULATED data by brms: means, standard deviations and their Monte Carlo errors, 4 chains x (1000 warm-up + 2500 draws), adapt_delta",
  ".95. 'converged': no divergent transition, every R-hat below 1.01; 'max_rhat' and 'min_ess_*' are over all terms, r included. Nothing is centred.",
  "'formula' and 'priors' are the package's texts; 'b' is every coefficient but b_Intercept; an sd's and sigma's are cut at 0, lapse's at 1 - guess.",
  "p = guess + (1 - guess - lapse) plogis(eta). cumulative: P(y <= k) = F(disc (b_Intercept[k] - eta)), disc = exp(b_disc x), so 1 where x is 0;",
  "b_Intercept[k] are ordered, each with the prior. mo(layer) is (levels - 1) times the sum of simo up to the level, so bsp is a mean step; each term",
  "with mo() has its own simo. (shifted_)lognormal: log(rt - ndt) ~ normal(eta, sigma)."
))
for (name in names(models)) {
  if (length(chosen) && !name %in% chosen) next
  m <- models[[name]]
  f <- formula_in_brms(m)
  started <- Sys.time()
  fit <- brm(
    f, data_for(m), family_in_brms(m), do.call(c, lapply(m$priors, prior_in_brms, m)), chains = 4, cores = 1, warmup = 1000, iter = 3500, seed = 1,
    control = list(adapt_delta = .95), refresh = 1750, file = file.path(cache, name)
  )
  results[[name]] <- c(list(formula = m$formula, formula_r = formula_text(f)), m[c("family", "link", "guess", "lapse", "disc", "data")], list(priors = I(m$priors)), summary_of(fit))
  write_out(results, "brms.json", 6)
  print(as.data.frame(unclass(prior_summary(fit)))[, c("prior", "class", "coef", "group", "dpar", "nlpar", "lb", "ub", "source")])
  shown <- results[[name]]
  cat(name, sprintf("rhat %.4f ess %.0f %.0f divergent %d, %.1f min\n", shown$max_rhat, shown$min_ess_bulk, shown$min_ess_tail, shown$divergences, as.numeric(Sys.time() - started, units = "mins")))
  stopifnot(shown$converged)
}
