# Likelihood-ratio tests and profile intervals: Rscript tests.R, from this folder, after fits.R; writes tests.json.
source("common.R")
results <- list("_about" = paste(
  "Likelihood-ratio tests from the tight fits of fits.json (names are its entries) and 95 % profile intervals. 'p' refers Chisq to chi-square(Df);",
  "'p_mixture', where one variance is tested alone, to half of chi-square(0) and half of chi-square(1). Profile limits: 'root' solves",
  "deviance(limit) - minimum = qchisq(.95, 1) with the rest maximised out; 'lme4' is confint(method = 'profile'), which interpolates.",
  "cbpp and sleepstudy are lme4's data sets (not in this folder); the rest is SIMULATED."
))

fits <- fromJSON("fits.json", simplifyVector = TRUE)
pairs <- list(
  interaction = c("crossed3_additive", "crossed3"), random_slope = c("crossed3_intercepts", "crossed3"),
  random_slopes_of_three = c("slopes3_intercept", "slopes3"), correlation = c("terms_uncorrelated", "terms_slopes"),
  variance_at_zero = c("terms_noblock", "terms_block"), singular_maximal = c("few_intercept", "few")
)
for (name in names(pairs)) {
  small <- fits[[pairs[[name]][1]]]
  large <- fits[[pairs[[name]][2]]]
  chisq <- max(0, 2 * (large$logLik - small$logLik))
  df <- large$df - small$df
  results$lrt[[name]] <- list(
    small = pairs[[name]][1], large = pairs[[name]][2], data = small$data, formula_small = small$formula, formula_large = large$formula,
    Chisq = chisq, Df = df, p = pchisq(chisq, df, lower.tail = FALSE),
    p_mixture = if (name == "variance_at_zero") (if (chisq > 1e-9) pchisq(chisq, 1, lower.tail = FALSE) / 2 else 1) else NULL,
    logLik = c(small$logLik, large$logLik), df = c(small$df, large$df), AIC = c(small$AIC, large$AIC), BIC = c(small$BIC, large$BIC)
  )
}
# lme4's own anova() on tight fits of one pair, as a check of the arithmetic.
d <- read_data("crossed3.csv")
a <- tight_glmer(formula_of(fits$crossed3_additive$formula), d)
b <- tight_glmer(formula_of(fits$crossed3$formula), d)
table <- anova(a$model, b$model)
results$lrt$interaction$anova <- list(Chisq = table$Chisq[2], Df = table$Df[2], p = table$`Pr(>Chisq)`[2], AIC = table$AIC, BIC = table$BIC)
# The only variance against none: anova(glmer, glm).
d <- read_data("slopes3.csv")
plain <- glm(correct ~ condition, binomial, d)
chisq <- 2 * (fits$slopes3_intercept$logLik - as.numeric(logLik(plain)))
results$lrt$only_variance <- list(
  small = "glm", large = "slopes3_intercept", data = "slopes3.csv", formula_small = "correct ~ condition", formula_large = fits$slopes3_intercept$formula,
  Chisq = chisq, Df = 1, p = pchisq(chisq, 1, lower.tail = FALSE), p_mixture = pchisq(chisq, 1, lower.tail = FALSE) / 2,
  logLik = c(as.numeric(logLik(plain)), fits$slopes3_intercept$logLik), df = c(3, 4)
)
write_out(results, "tests.json")

# Profile limits as roots. par in the scale that is reported; `lower` is the boundary of each.
roots <- function(deviance, par, vcov, lower, upper) {
  minimum <- deviance(par)
  se <- sqrt(diag(vcov))
  target <- qchisq(.95, 1)
  one <- function(i, side) {
    others <- seq_along(par)[-i]
    inner <- par[others]
    rest <- function(value) {
      at <- function(o) {
        q <- par
        q[others] <- o
        q[i] <- value
        q
      }
      f <- function(z) deviance(at(z * se[others])) - minimum
      g <- function(z) vapply(seq_along(z), function(k) {
        e <- replace(numeric(length(z)), k, 1e-3)
        (8 * (f(z + e) - f(z - e)) - (f(z + 2 * e) - f(z - 2 * e))) / 12e-3
      }, 0)
      opt <- nlminb(inner / se[others], f, g, lower = (lower[others] + 1e-8) / se[others], upper = (upper[others] - 1e-8) / se[others], control = list(rel.tol = 1e-13, x.tol = 1e-9))
      inner <<- opt$par * se[others]
      opt$objective - target
    }
    far <- par[i]
    for (step in 1:12) {
      near <- far
      far <- par[i] + side * se[i] * (1.2 + .5 * step)
      far <- min(max(far, lower[i] + 1e-7), upper[i] - 1e-7)
      inner <- par[others] + vcov[others, i] / vcov[i, i] * (far - par[i])
      inner <- pmin(pmax(inner, lower[others] + 1e-6), upper[others] - 1e-6)
      if (rest(far) > 0) return(uniroot(rest, sort(c(near, far)), tol = 1e-9)$root)
      if (far <= lower[i] + 2e-7) return(lower[i])
      if (far >= upper[i] - 2e-7) return(upper[i])
    }
    NA
  }
  limits <- t(vapply(seq_along(par), function(i) c(one(i, -1), one(i, 1)), c(0, 0)))
  setNames(lapply(seq_along(par), function(i) as.list(setNames(limits[i, ], c("low", "high")))), names(par))
}
from_lme4 <- function(m) {
  limits <- suppressMessages(suppressWarnings(confint(m, method = "profile", oldNames = FALSE, quiet = TRUE)))
  setNames(lapply(seq_len(nrow(limits)), function(i) list(low = unname(limits[i, 1]), high = unname(limits[i, 2]))), rownames(limits))
}
keep <- function(name, file, text, estimates, root, m) {
  by_lme4 <- tryCatch(from_lme4(m), error = function(e) list(error = conditionMessage(e)))
  shared <- intersect(names(root), names(by_lme4))
  results$profile[[name]] <<- list(
    data = file, formula = text, estimate = as.list(estimates), root = root, lme4 = by_lme4,
    difference = max(abs(unlist(root[shared]) - unlist(by_lme4[shared])), na.rm = TRUE)
  )
  str(results$profile[[name]])
  write_out(results, "tests.json")
}

# Scalar groups: theta is the standard deviation. Names as confint's.
binomial_cases <- list(
  cbpp = list("lme4::cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)"),
  nested = list("nested.csv", "cbind(successes, failures) ~ x + (1 | batch/cask)"),
  nested_offset = list("nested.csv", "cbind(successes, failures) ~ x + offset(known) + (1 | batch/cask)"),
  few_intercept = list("few.csv", "correct ~ representation * depth + (1 | participant)"),
  slopes3_intercept = list("slopes3.csv", "correct ~ condition + (1 | participant)")
)
for (name in names(binomial_cases)) {
  case <- binomial_cases[[name]]
  data <- d <- if (case[[1]] == "lme4::cbpp") lme4::cbpp else read_data(case[[1]])
  t <- tight_glmer(formula_of(case[[2]]), d)
  par <- t$par
  k <- length(t$model@theta)
  names(par)[seq_len(k)] <- paste0("sd_(Intercept)|", names(t$model@cnms))
  own <- laplace_of(t$parts)
  root <- roots(own$deviance, par, t$joint, c(rep(0, k), rep(-Inf, length(par) - k)), rep(Inf, length(par)))
  keep(name, case[[1]], case[[2]], par, root, t$first)
}

# sleepstudy by maximum likelihood, from its normal density: sds, correlation, sigma, then the coefficients.
data <- d <- lme4::sleepstudy
m <- lmer(Reaction ~ Days + (1 + Days | Subject), d, REML = FALSE, control = lmerControl(optimizer = "bobyqa"))
t <- tight_lmer(formula_of("Reaction ~ Days + (1 + Days | Subject)"), d, FALSE)
Y <- matrix(d$Reaction[order(d$Subject, d$Days)], 10)
X <- cbind(1, 0:9)
density_of <- function(par) {
  S <- outer(par[c(1, 3)], par[c(1, 3)]) * matrix(c(1, par[2], par[2], 1), 2)
  V <- X %*% S %*% t(X) + diag(par[4]^2, 10)
  R <- chol(V)
  r <- backsolve(R, Y - as.numeric(X %*% par[5:6]), transpose = TRUE)
  ncol(Y) * (10 * log(2 * pi) + 2 * sum(log(diag(R)))) + sum(r^2)
}
v <- VarCorr(t$model)$Subject
par <- c(attr(v, "stddev")[1], attr(v, "correlation")[2, 1], attr(v, "stddev")[2], sigma(t$model), fixef(t$model))
names(par) <- c("sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject", "sd_Days|Subject", "sigma", "(Intercept)", "Days")
H <- hessian(density_of, par)
root <- roots(density_of, par, solve(H / 2), c(0, -1, 0, 0, -Inf, -Inf), c(Inf, 1, rep(Inf, 4)))
keep("sleepstudy", "lme4::sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", par, root, m)
results$profile$sleepstudy$logLik <- as.numeric(logLik(t$model))
results$profile$sleepstudy$density_logLik <- -density_of(par) / 2
write_out(results, "tests.json")
