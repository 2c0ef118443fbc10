# Design matrices as R makes them: Rscript tests/golden/model_matrix.R > tests/golden/model_matrix.json
library(MASS)
library(splines)

d <- data.frame(
  x = c(-1.5, -0.7, 0.1, 0.4, 0.9, 1.3, 2.2, 3.1, 3.3, 4.0, -2.2, 0.6),
  z = c(1.1, 1.9, 1.4, 1.2, 1.8, 1.5, 1.3, 1.7, 1.6, 1.05, 1.95, 1.45),
  f = rep(c("b", "a", "c"), 4),
  h = c("u:v", "w (1)", "[S.k], m")[c(1, 2, 3, 2, 3, 1, 3, 1, 2, 1, 2, 3)],
  u = rep(c("\u00e9t\u00e9 \u03b1", "neuron"), each = 6)
)
# Levels by code point, whatever the locale.
for (name in c("f", "h", "u")) d[[name]] <- factor(d[[name]], sort(unique(d[[name]]), method = "radix"))
new <- d[c(7, 2, 9), ]
new$x <- c(-1.9, 0.25, 3.7)
new$z <- c(1.15, 1.35, 1.75)

sdif <- "contr.sdif"
formulas <- c(
  "~ x * f", "~ C(f, sum) * x", "~ C(f, sum) * C(h, sum)", "~ C(f, sdif) * z", "~ C(f, treatment)", "~ 0 + f * h",
  "~ h / x", "~ x / f", "~ f - 1", "~ x:f", "~ f * x - f", "~ h:f + h", "~ C(h, sum):x", "~ (f + x + z)^2", "~ x:z:f",
  "~ u * h", "~ I(x^2) + I(x * z) + I(x/z)", "~ I((x + z)^2) + I(-x)", "~ I(2 * x - z)", "~ I(2^x)", "~ log(z):f",
  "~ exp(-z) + sqrt(z)", "~ poly(x, 2) * f", "~ poly(x, degree = 3)", "~ scale(x) * f", "~ bs(x, df = 5)",
  "~ bs(x, df = 4, degree = 2)", "~ bs(x)", "~ x + f + f:x", "~ z + h:z", "~ h + f:h", "~ f + x:f", "~ x + (f - 1)",
  "~ (0 + x)", "~ x + (z + (f - 1))", "~ (x + z):f"
)

quoted <- function(x) encodeString(enc2utf8(x), quote = '"')
list_of <- function(x) paste0("[", paste(x, collapse = ", "), "]")
rows_of <- function(m) list_of(apply(m, 1, function(row) list_of(format(row, digits = 15, trim = TRUE))))
object <- function(...) {
  parts <- c(...)
  paste0("{", paste0(quoted(names(parts)), ": ", parts, collapse = ", "), "}")
}
columns <- function(frame) {
  do.call(object, lapply(frame, function(x) list_of(if (is.factor(x)) quoted(as.character(x)) else format(x, digits = 15, trim = TRUE))))
}
cases <- vapply(formulas, function(text) {
  # lm's terms remember the bases, as predict() uses them for new rows.
  learned <- delete.response(terms(lm(as.formula(paste("seq_len(12)", text)), d)))
  matrix <- model.matrix(learned, model.frame(learned, d))
  again <- model.matrix(learned, model.frame(learned, new))
  object(formula = quoted(text), names = list_of(quoted(colnames(matrix))), rows = rows_of(matrix), new = rows_of(again))
}, "")
session <- c(R.version.string, paste("MASS", packageVersion("MASS")), paste("splines", packageVersion("splines")))
writeLines(paste0(
  "{\"session\": ", list_of(quoted(session)), ",\n\"data\": ", columns(d), ",\n\"new\": ", columns(new),
  ",\n\"cases\": [\n", paste(cases, collapse = ",\n"), "\n]}"
), useBytes = TRUE)
