# Adaptive Gauss-Hermite quadrature with one scalar group: Rscript quadrature.R; writes quadrature.json.
source("common.R")

# Adaptive Gauss-Hermite and plain numerical integration of the same marginal likelihood, binomial coefficients included; par = (sd, beta).
marginal_of <- function(parts) {
  X <- parts$X
  group <- parts$reTrms$flist[[1]]
  response <- model.response(parts$fr)
  y <- if (is.matrix(response)) response[, 1] else as.numeric(response)
  n <- if (is.matrix(response)) rowSums(response) else rep(1, length(y))
  constant <- sum(lchoose(n, y))
  by_level <- split(seq_along(y), group)
  level <- function(par, rows) {
    fixed <- as.numeric(X[rows, , drop = FALSE] %*% par[-1])
    function(u) {
      eta <- outer(fixed, par[1] * u, "+")
      colSums(y[rows] * plogis(eta, log.p = TRUE) + (n[rows] - y[rows]) * plogis(-eta, log.p = TRUE)) - u^2 / 2
    }
  }
  mode_of <- function(par, rows) {
    fixed <- as.numeric(X[rows, , drop = FALSE] %*% par[-1])
    u <- 0
    for (i in 1:100) {
      p <- plogis(fixed + par[1] * u)
      h <- 1 + par[1]^2 * sum(n[rows] * p * (1 - p))
      step <- (par[1] * sum(y[rows] - n[rows] * p) - u) / h
      u <- u + step
      if (abs(step) < 1e-13) break
    }
    p <- plogis(fixed + par[1] * u)
    c(u, 1 + par[1]^2 * sum(n[rows] * p * (1 - p)))
  }
  list(
    quadrature = function(par, points) {
      rule <- GHrule(points)
      constant + sum(vapply(by_level, function(rows) {
        at <- mode_of(par, rows)
        values <- level(par, rows)(at[1] + rule[, "z"] / sqrt(at[2])) + rule[, "z"]^2 / 2 + log(rule[, "w"])
        max(values) + log(sum(exp(values - max(values)))) - log(at[2]) / 2
      }, 0))
    },
    integral = function(par) {
      constant + sum(vapply(by_level, function(rows) {
        at <- mode_of(par, rows)
        f <- level(par, rows)
        top <- f(at[1])
        s <- 1 / sqrt(at[2])
        # In units of the mode's width; 20 widths on either side hold all but nothing.
        area <- integrate(function(z) exp(f(at[1] + s * z) - top), -20, 20, rel.tol = 1e-12, subdivisions = 1000)$value
        top + log(area * s) - log(2 * pi) / 2
      }, 0))
    }
  )
}

results <- list("_about" = paste(
  "Adaptive Gauss-Hermite quadrature, one scalar group. cbpp is lme4's data set (not in this folder); slopes3.csv is SIMULATED. 'glmer' is glmer's",
  "own optimum (its logLik is on another scale: binomial coefficients and the saturated model's constant are left out); fixef, se, sd and logLik",
  "are of the same quadrature written out, binomial coefficients included, Newton steps to its optimum; integral_logLik is by integrate() at the",
  "same parameters; points 1 is Laplace."
))
cases <- list(
  cbpp = list(data = lme4::cbpp, file = "lme4::cbpp", formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"),
  slopes3_intercept = list(data = read_data("slopes3.csv"), file = "slopes3.csv", formula = "correct ~ condition + (1 | participant)")
)
for (name in names(cases)) {
  case <- cases[[name]]
  results[[name]] <- list(data = case$file, formula = case$formula, points = list())
  for (points in c(1, 5, 11, 25)) {
    d <- case$data
    t <- tight_glmer(formula_of(case$formula), d, nAGQ = as.integer(points))
    terms <- colnames(t$parts$X)
    own <- marginal_of(t$parts)
    best <- newton(function(par) -2 * own$quadrature(par, points), as.numeric(t$par))
    V <- best$vcov[-1, -1]
    dimnames(V) <- list(terms, terms)
    entry <- list(
      fixef = named(best$par[-1], terms), se = named(sqrt(diag(V)), terms), sd = best$par[1], vcov = matrix_of(V), logLik = -best$value / 2,
      integral_logLik = own$integral(best$par),
      glmer = list(fixef = named(fixef(t$model), terms), se = named(sqrt(diag(t$vcov)), terms), sd = as.numeric(t$par[1]), logLik = as.numeric(logLik(t$model)))
    )
    entry$differences <- list(fixef = largest(entry$fixef, entry$glmer$fixef), se = largest(entry$se, entry$glmer$se), sd = abs(entry$sd - entry$glmer$sd))
    results[[name]]$points[[as.character(points)]] <- entry
    cat(name, points, sprintf("%.9f integral %.9f glmer %.6f sd %.8f", entry$logLik, entry$integral_logLik, entry$glmer$logLik, entry$sd),
        paste(names(entry$differences), sprintf("%.1e", unlist(entry$differences))), "\n")
    write_out(results, "quadrature.json")
  }
}
