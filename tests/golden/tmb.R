# The guess-rate models of laplace.json again, by TMB's automatic differentiation: Rscript tmb.R, after laplace.R (needs TMB and a C++ compiler,
# for remaking only); writes tmb.json. Shares no code with laplace.R but the reading of the data.
source("common.R")
suppressPackageStartupMessages(library(TMB))
template <- '
#include <TMB.hpp>
template<class Type> Type objective_function<Type>::operator() () {
  DATA_VECTOR(y); DATA_MATRIX(X); DATA_IVECTOR(person); DATA_IVECTOR(pair); DATA_SCALAR(guess); DATA_SCALAR(lapse); DATA_INTEGER(probit);
  PARAMETER_VECTOR(theta); PARAMETER_VECTOR(beta); PARAMETER_MATRIX(u); PARAMETER_VECTOR(v);
  Type out = 0;
  for (int i = 0; i < u.rows(); i++) for (int j = 0; j < 2; j++) out -= dnorm(u(i, j), Type(0), Type(1), true);
  for (int i = 0; i < v.size(); i++) out -= dnorm(v(i), Type(0), Type(1), true);
  vector<Type> fixed = X * beta;
  for (int i = 0; i < y.size(); i++) {
    int a = person(i);
    Type eta = fixed(i) + theta(0) * u(a, 0) + (theta(1) * u(a, 0) + theta(2) * u(a, 1)) * X(i, 1) + theta(3) * v(pair(i));
    Type F = probit ? pnorm(eta) : invlogit(eta);
    Type p = guess + (1 - guess - lapse) * F;
    out -= y(i) * log(p) + (1 - y(i)) * log(1 - p);
  }
  return out;
}'
place <- tempfile()
dir.create(place)
here <- setwd(place)
writeLines(template, "afc.cpp")
compile("afc.cpp", flags = "-w")
dyn.load(dynlib("afc"))
setwd(here)
results <- list("_about" = paste(
  "laplace.json's guess-rate models fitted by TMB (SIMULATED data); 'differences' from laplace.json, absolute. theta: participant's Cholesky",
  "factor by column, then the pair's standard deviation; the sign of a column is arbitrary."
))
reference <- fromJSON("laplace.json")
d <- read_data("afc.csv")
X <- model.matrix(~ representation * depth, d)
for (name in c("afc_logit", "afc_probit", "afc_lapse", "afc_third")) {
  q <- reference[[name]]
  o <- MakeADFun(
    list(y = d$correct, X = X, person = as.integer(d$participant) - 1L, pair = as.integer(d$pair) - 1L, guess = q$guess, lapse = q$lapse, probit = as.integer(q$link == "probit")),
    list(theta = c(.5, 0, .5, .5), beta = c(.5, 0, 0, 0), u = matrix(0, 14, 2), v = rep(0, 12)), random = c("u", "v"), DLL = "afc", silent = TRUE,
    inner.control = list(tol = 1e-13, tol10 = 0, grad.tol = 1e-11)
  )
  par <- nlminb(o$par, o$fn, o$gr, control = list(rel.tol = 1e-15, eval.max = 2000, iter.max = 2000))$par
  gradient <- function(p) as.numeric(o$gr(p))
  for (i in 1:3) par <- par - solve(jacobian(gradient, par), gradient(par))
  se <- sqrt(diag(solve(jacobian(gradient, par, method.args = list(d = .01)))))
  results[[name]] <- list(
    logLik = -o$fn(par), fixef = named(par[5:8], colnames(X)), se = named(se[5:8], colnames(X)), theta = as.numeric(par[1:4]),
    differences = list(logLik = abs(-o$fn(par) - q$logLik), fixef = max(abs(par[5:8] - unlist(q$fixef))), se = max(abs(se[5:8] - unlist(q$se))), theta = max(abs(abs(par[1:4]) - abs(q$theta))))
  )
  cat(name, sprintf("%.10f", -o$fn(par)), sprintf("%.1e", unlist(results[[name]]$differences)), "\n")
}
write_out(results, "tmb.json")
