# What the scripts of this folder share: data, tight fits, a hand-written Laplace approximation, and how results are written.
suppressPackageStartupMessages({
  library(lme4)
  library(jsonlite)
  library(numDeriv)
  library(MASS)
  library(splines)
})
sdif <- "contr.sdif" # so that C(f, sdif) is a coding in R too

read_data <- function(name) {
  d <- read.csv(file.path("data", name), stringsAsFactors = FALSE)
  for (column in names(d)[vapply(d, is.character, NA)]) {
    d[[column]] <- factor(d[[column]], sort(unique(d[[column]]), method = "radix")) # by code point, whatever the locale
  }
  if ("representation" %in% names(d)) d$representation <- factor(d$representation, c("local", "distributed"))
  d
}
formula_of <- function(text) as.formula(text, env = globalenv())
named <- function(values, names) setNames(as.list(unname(as.numeric(values))), names)
matrix_of <- function(V) {
  V <- as.matrix(V)
  list(rows = rownames(V), values = unname(V))
}
write_out <- function(results, file, digits = 17) {
  text <- as.character(toJSON(results, digits = I(digits), auto_unbox = TRUE, pretty = 1, null = "null", na = "null"))
  for (inner in c("\\{[^{}\\[\\]]*\\}", "\\[[^{}\\[\\]]*\\]")) { # the innermost on one line
    at <- gregexpr(inner, text, perl = TRUE)
    regmatches(text, at) <- lapply(regmatches(text, at), function(x) gsub("\n *", " ", x))
  }
  writeLines(text, file)
}

# Derivatives by Richardson extrapolation over steps of 0.4 down to 0.05 of a standard error.
hessian_at <- function(fn, par, scale) {
  hessian(function(z) fn(par + scale * (z - 1)), rep(1, length(par))) / outer(scale, scale)
}
gradient_at <- function(fn, par, scale) grad(function(z) fn(par + scale * (z - 1)), rep(1, length(par))) / scale
scales <- function(H) 4 * sqrt(diag(solve(H / 2)))

# Newton steps on a deviance (-2 log L) to its minimum; stops when the predicted gain is below 1e-11.
newton <- function(fn, par, steps = 6) {
  scale <- pmax(abs(par), .3)
  H <- hessian_at(fn, par, scale)
  for (i in seq_len(steps)) {
    scale <- scales(H)
    H <- hessian_at(fn, par, scale)
    g <- gradient_at(fn, par, scale)
    step <- solve(H, g)
    gain <- sum(g * step) / 2
    par <- par - step
    if (gain < 1e-11) break
  }
  H <- hessian_at(fn, par, scales(H))
  list(par = par, value = fn(par), hessian = H, vcov = solve(H / 2), gradient = max(abs(gradient_at(fn, par, scales(H)) * scales(H) / 4)))
}

# bobyqa restarted from its own optimum until the deviance moves by less than 1e-9.
restarts <- function(fn, par, lower, rhobeg = .05) {
  best <- Inf
  for (i in 1:30) {
    opt <- minqa::bobyqa(par, fn, lower = lower, control = list(rhobeg = rhobeg, rhoend = 1e-10, maxfun = 1e5, npt = min(length(par) * 2 + 1, 40)))
    moved <- best - opt$fval
    if (opt$fval < best) {
      best <- opt$fval
      par <- opt$par
    }
    if (abs(moved) < 1e-9) break
    rhobeg <- max(rhobeg / 2, 1e-3)
  }
  par
}

# Cholesky factor of a covariance that may be singular: a zero pivot has a zero column.
lower_factor <- function(S, tol = 1e-9) {
  n <- nrow(S)
  L <- matrix(0, n, n)
  for (j in seq_len(n)) {
    pivot <- S[j, j] - sum(L[j, seq_len(j - 1)]^2)
    if (pivot > tol * max(diag(S), 1e-300) && pivot > tol) {
      L[j, j] <- sqrt(pivot)
      for (i in seq_len(n - j) + j) L[i, j] <- (S[i, j] - sum(L[i, seq_len(j - 1)] * L[j, seq_len(j - 1)])) / L[j, j]
    }
  }
  L
}
split_theta <- function(theta, cnms) {
  sizes <- lengths(cnms)
  ends <- cumsum(sizes * (sizes + 1) / 2)
  Map(function(k, end) {
    L <- matrix(0, k, k)
    L[lower.tri(L, TRUE)] <- theta[(end - k * (k + 1) / 2 + 1):end]
    L
  }, sizes, ends)
}
canonical <- function(theta, cnms) {
  unlist(lapply(split_theta(theta, cnms), function(L) {
    C <- lower_factor(tcrossprod(L), 1e-8)
    C[lower.tri(C, TRUE)]
  }), use.names = FALSE)
}

# glmer's model, its own deviance function minimised over (theta, beta) by restarted bobyqa. For the canonical link and one quadrature point
# the last Newton steps and the Hessian use the written-out approximation below, the same function without lme4's tolerance: even at
# tolPwrss = 1e-13 the noise left in lme4's deviance (up to 6e-9) moves a standard error by up to 6e-5 of itself.
tight_glmer <- function(formula, data, family = binomial(), nAGQ = 1L, tolPwrss = 1e-13, start = NULL) {
  control <- glmerControl(optimizer = "bobyqa", tolPwrss = tolPwrss, check.conv.singular = "ignore", calc.derivs = FALSE, optCtrl = list(maxfun = 1e5))
  call <- list(quote(glmer), formula = formula, data = quote(data), family = family, nAGQ = nAGQ, control = control)
  if (!is.null(start)) call$mustart <- start
  first <- suppressWarnings(eval(as.call(call)))
  g <- do.call(glFormula, c(list(formula = formula, data = data, family = family, control = control), if (!is.null(start)) list(mustart = start)))
  dev <- do.call(mkGlmerDevfun, c(g, list(control = control)))
  dev(getME(first, "theta"))
  dev <- updateGlmerDevfun(dev, g$reTrms, nAGQ = nAGQ)
  theta0 <- getME(first, "theta")
  k <- length(theta0)
  lower <- c(first@lower, rep(-Inf, length(fixef(first))))
  par <- restarts(dev, c(theta0, fixef(first)), lower)
  canonical_link <- family$link == "logit" && nAGQ == 1L
  polished <- if (canonical_link) laplace_of(g)$deviance else dev
  for (again in 1:3) { # thetas that vanish are set to 0 and the rest is found with them there
    par[seq_len(k)] <- canonical(par[seq_len(k)], g$reTrms$cnms)
    free <- which(!(seq_along(par) <= k & abs(par) < 2e-4))
    full <- function(p) {
      q <- rep(0, length(par))
      q[free] <- p
      q
    }
    best <- newton(function(p) polished(full(p)), par[free])
    par <- full(best$par)
    if (all(abs(par[intersect(free, seq_len(k))]) > 2e-4)) break
  }
  zero <- setdiff(seq_len(k), free)
  # The deviance is even in every column of Lambda that is 0, so the cross derivatives with the rest are 0 there; what is left to see is that it rises.
  rise <- vapply(zero, function(i) {
    q <- par
    q[i] <- .05
    polished(q) - polished(par)
  }, 0)
  value <- dev(par)
  names(par) <- c(names(theta0), names(fixef(first)))
  m <- mkMerMod(environment(dev), list(par = unname(par), fval = value, conv = 0, message = "", feval = 0), g$reTrms, fr = g$fr, mc = first@call)
  p <- length(fixef(m))
  block <- seq(length(free) - p + 1, length(free))
  V <- best$vcov[block, block, drop = FALSE]
  dimnames(V) <- list(names(fixef(m)), names(fixef(m)))
  joint <- best$vcov
  dimnames(joint) <- list(names(par)[free], names(par)[free])
  list(model = m, par = par, vcov = V, joint = joint, zero = names(par)[zero], rise = rise, devfun = dev, gradient = best$gradient, first = first, parts = g, deviance = best$value)
}
tight_lmer <- function(formula, data, REML = TRUE) {
  control <- lmerControl(optimizer = "bobyqa", check.conv.singular = "ignore", calc.derivs = FALSE)
  first <- eval(as.call(list(quote(lmer), formula = formula, data = quote(data), REML = REML, control = control)))
  g <- lFormula(formula, data, REML = REML, control = control)
  dev <- do.call(mkLmerDevfun, c(g, list(control = control)))
  par <- restarts(dev, getME(first, "theta"), first@lower)
  best <- newton(dev, par)
  value <- dev(best$par)
  m <- mkMerMod(environment(dev), list(par = best$par, fval = value, conv = 0, message = "", feval = 0), g$reTrms, fr = g$fr, mc = first@call)
  list(model = m, par = best$par, vcov = as.matrix(vcov(m)), zero = character(), gradient = best$gradient, devfun = dev, parts = g)
}

# What is read off a fit. Groups that lme4 splits for `||` are put together again.
covariance_of <- function(factors, cnms, sigma = 1) {
  out <- list()
  for (i in seq_along(cnms)) {
    S <- tcrossprod(factors[[i]]) * sigma^2
    sds <- sqrt(diag(S))
    group <- names(cnms)[i]
    if (is.null(out[[group]])) out[[group]] <- list(sd = list(), cor = setNames(list(), character()))
    out[[group]]$sd <- c(out[[group]]$sd, named(sds, cnms[[i]]))
    for (a in seq_len(length(sds) - 1)) {
      later <- seq_len(length(sds) - a) + a
      out[[group]]$cor[[cnms[[i]][a]]] <- named(ifelse(sds[a] * sds[later] > 0, S[a, later] / (sds[a] * sds[later]), NA), cnms[[i]][later])
    }
  }
  out
}
levels_map <- function(values, cnms, flist, assign) { # values in the order of b: term by term, level by level
  out <- list()
  at <- 0
  for (i in seq_along(cnms)) {
    group <- names(cnms)[i]
    f <- flist[[group]]
    k <- length(cnms[[i]])
    for (level in levels(f)) {
      out[[group]][[level]] <- c(out[[group]][[level]], named(values[at + seq_len(k)], cnms[[i]]))
      at <- at + k
    }
  }
  out
}
modes_of <- function(m) {
  b <- as.numeric(getME(m, "b"))
  Lt <- getME(m, "Lambdat")
  V <- sigma(m)^2 * t(Lt) %*% solve(getME(m, "L"), Lt, system = "A")
  flist <- getME(m, "flist")
  list(modes = levels_map(b, m@cnms, flist), mode_sd = levels_map(sqrt(pmax(diag(as.matrix(V)), 0)), m@cnms, flist))
}
report_fit <- function(t, modes = TRUE) {
  m <- t$model
  ll <- logLik(m)
  df <- attr(ll, "df")
  value <- if (isLMM(m)) as.numeric(ll) else -t$deviance / 2
  out <- list(
    logLik = value, df = df, nobs = nobs(m), AIC = 2 * df - 2 * value, BIC = log(nobs(m)) * df - 2 * value, REML = isREML(m),
    fixef = named(fixef(m), names(fixef(m))), se = named(sqrt(diag(t$vcov)), rownames(t$vcov)), vcov = matrix_of(t$vcov),
    VarCorr = covariance_of(split_theta(getME(m, "theta"), m@cnms), m@cnms, sigma(m)), sigma = if (isLMM(m)) sigma(m) else NULL,
    theta = named(getME(m, "theta"), names(getME(m, "theta"))), ngrps = as.list(ngrps(m)),
    singular = length(t$zero) > 0, zero_theta = I(as.character(t$zero)), gradient_per_se = t$gradient
  )
  if (length(t$zero)) out$rise_at_theta_0.05 <- named(t$rise, t$zero)
  if (modes) out <- c(out, modes_of(m))
  out
}

# A Laplace approximation written out: modes by Newton's method, and the determinant of the observed Hessian (minus the second derivative
# of the log-likelihood in eta). p = guess + (1 - guess - lapse) F(eta). Returns the log-likelihood, binomial coefficients included.
response_terms <- function(eta, y, n, guess, lapse, link) {
  if (link == "logit") {
    F <- plogis(eta)
    G <- plogis(-eta)
    f <- F * G
    ff <- f * (G - F)
  } else {
    F <- pnorm(eta)
    G <- pnorm(-eta)
    f <- dnorm(eta)
    ff <- -eta * f
  }
  span <- 1 - guess - lapse
  p <- guess + span * F
  q <- lapse + span * G
  d <- span * f
  s <- y / p - (n - y) / q
  list(
    value = ifelse(y > 0, y * log(p), 0) + ifelse(n > y, (n - y) * log(q), 0), first = s * d,
    second = s * span * ff - (y / p^2 + (n - y) / q^2) * d^2, fisher = n * d^2 / (p * q)
  )
}
laplace_of <- function(parts, guess = 0, lapse = 0, link = "logit") {
  X <- parts$X
  Z <- t(as.matrix(parts$reTrms$Zt))
  Lambda <- t(as.matrix(parts$reTrms$Lambdat))
  Lt <- parts$reTrms$Lambdat
  Lind <- parts$reTrms$Lind
  response <- model.response(parts$fr)
  y <- if (is.matrix(response)) response[, 1] else as.numeric(response)
  n <- if (is.matrix(response)) rowSums(response) else rep(1, length(y))
  offset <- model.offset(parts$fr)
  if (is.null(offset)) offset <- 0
  k <- length(parts$reTrms$theta)
  constant <- sum(lchoose(n, y))
  u <- rep(0, ncol(Z))
  state <- function(par) {
    Lt@x <- par[seq_len(k)][Lind]
    A <- as.matrix(Z %*% t(Lt))
    fixed <- offset + as.numeric(X %*% par[-seq_len(k)])
    u <- u
    eta <- fixed + as.numeric(A %*% u)
    r <- response_terms(eta, y, n, guess, lapse, link)
    value <- sum(r$value) - sum(u^2) / 2
    done <- FALSE
    for (i in 1:200) {
      slope <- as.numeric(crossprod(A, r$first)) - u
      R <- tryCatch(chol(diag(length(u)) - crossprod(A, A * r$second)), error = function(e) NULL)
      if (done && !is.null(R)) break
      step_R <- if (is.null(R)) chol(diag(length(u)) + crossprod(A, A * r$fisher)) else R
      step <- backsolve(step_R, forwardsolve(t(step_R), slope))
      size <- 1
      repeat {
        candidate <- u + size * step
        eta2 <- fixed + as.numeric(A %*% candidate)
        r2 <- response_terms(eta2, y, n, guess, lapse, link)
        value2 <- sum(r2$value) - sum(candidate^2) / 2
        if (value2 >= value - 1e-9 || size < 1e-8) break
        size <- size / 2
      }
      u <- candidate
      r <- r2
      value <- value2
      if (max(abs(step)) < 1e-9) done <- TRUE
    }
    list(logLik = constant + value - sum(log(diag(R))), u = u, R = R, Lambda = t(as.matrix(Lt)))
  }
  list(
    deviance = function(par) {
      s <- state(par)
      u <<- s$u
      -2 * s$logLik
    }, state = state, k = k, parts = parts
  )
}
fit_laplace <- function(parts, start, guess = 0, lapse = 0, link = "logit") {
  own <- laplace_of(parts, guess, lapse, link)
  scale <- pmax(abs(start), .3)
  opt <- nlminb(start, own$deviance, gradient = function(p) gradient_at(own$deviance, p, rep(.05, length(p))),
                lower = c(parts$reTrms$lower, rep(-Inf, ncol(parts$X))), control = list(rel.tol = 1e-13, x.tol = 1e-10, eval.max = 1000, iter.max = 500))
  best <- newton(own$deviance, opt$par)
  k <- own$k
  s <- own$state(best$par)
  cnms <- parts$reTrms$cnms
  terms <- colnames(parts$X)
  beta <- seq_along(best$par) > k
  V <- best$vcov[beta, beta, drop = FALSE]
  dimnames(V) <- list(terms, terms)
  n <- nrow(parts$X)
  df <- length(best$par)
  C <- s$Lambda %*% chol2inv(s$R) %*% t(s$Lambda)
  list(
    logLik = s$logLik, df = df, nobs = n, AIC = -2 * s$logLik + 2 * df, BIC = -2 * s$logLik + log(n) * df,
    fixef = named(best$par[beta], terms), se = named(sqrt(diag(V)), terms), vcov = matrix_of(V),
    VarCorr = covariance_of(split_theta(best$par[!beta], cnms), cnms), theta = as.numeric(best$par[!beta]), gradient_per_se = best$gradient,
    modes = levels_map(as.numeric(s$Lambda %*% s$u), cnms, parts$reTrms$flist), mode_sd = levels_map(sqrt(pmax(diag(C), 0)), cnms, parts$reTrms$flist)
  )
}
largest <- function(a, b) max(abs(unlist(a) - unlist(b)[names(unlist(a))]))
