# One fit by lme4's glmer, at its defaults: a CSV, the formula and the levels of representation, the reference first.
# Prints one line of JSON: seconds without and with what Rscript and library(lme4) took, and versions.
suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(TRUE)
seconds <- system.time({
  d <- read.csv(arguments[1], stringsAsFactors = TRUE)
  d$representation <- factor(d$representation, strsplit(arguments[3], ",")[[1]])
  m <- suppressMessages(suppressWarnings(glmer(as.formula(arguments[2]), d, binomial)))
})[["elapsed"]]
cat(sprintf('{"fit_s": %.6f, "versions": {"R": "%s.%s", "lme4": "%s"}}\n', seconds, R.version$major,
            R.version$minor, packageVersion("lme4")))
