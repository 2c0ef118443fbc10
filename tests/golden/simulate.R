# Simulated data for the reference fits: Rscript simulate.R, from this folder. Nothing here was measured on anyone.
# A fixed seed per file; the seeds were chosen so that the fits that should be regular are, and few.csv's and `block`'s are singular.
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
save <- function(frame, name) write.csv(frame, file.path("data", name), row.names = FALSE, quote = FALSE)
ids <- function(prefix, n) sprintf("%s%02d", prefix, seq_len(n))
effects <- function(n, sds, cor) {
  rows <- length(sds)
  R <- diag(rows)
  R[lower.tri(R)] <- cor
  R[upper.tri(R)] <- t(R)[upper.tri(R)]
  matrix(rnorm(n * rows), n) %*% chol(outer(sds, sds) * R)
}
draw <- function(p) as.integer(runif(length(p)) < p)

# a. A three-level factor with correlated slopes.
set.seed(107)
d <- expand.grid(trial = 1:20, condition = c("mixed", "natural", "optimized"), person = 1:24, stringsAsFactors = FALSE)
u <- effects(24, c(.8, .7, .6), c(-.3, -.2, .3))
eta <- .6 + .7 * (d$condition == "natural") - .2 * (d$condition == "optimized") + u[d$person, 1] +
  u[d$person, 2] * (d$condition == "natural") + u[d$person, 3] * (d$condition == "optimized")
save(data.frame(participant = ids("p", 24)[d$person], condition = d$condition, correct = draw(plogis(eta))), "slopes3.csv")

# b. Three crossed groups.
set.seed(22)
n <- 1200
person <- rep(1:20, each = 60)
pair <- unlist(lapply(1:20, function(i) sample(rep(1:15, 4))))
image <- unlist(lapply(1:20, function(i) sample(rep(1:12, 5))))
distributed <- unlist(lapply(1:20, function(i) sample(rep(0:1, 30))))
depth <- round((0:14 / 14)[pair], 3)
u <- effects(20, c(.7, .6), -.4)
eta <- .3 + .5 * distributed + .6 * depth - .9 * distributed * depth + u[person, 1] + u[person, 2] * distributed +
  rnorm(15, 0, .6)[pair] + rnorm(12, 0, .5)[image]
save(data.frame(
  participant = ids("p", 20)[person], pair = ids("q", 15)[pair], image = ids("i", 12)[image],
  representation = c("local", "distributed")[distributed + 1], depth = depth, correct = draw(plogis(eta))
), "crossed3.csv")

# c. Two alternatives, one in two right by guessing.
set.seed(204)
person <- rep(1:14, each = 60)
pair <- unlist(lapply(1:14, function(i) sample(rep(1:12, 5))))
distributed <- unlist(lapply(1:14, function(i) sample(rep(0:1, 30))))
depth <- round((0:11 / 11)[pair], 3)
u <- effects(14, c(.9, .9), -.3)
eta <- .6 - .4 * distributed + .8 * depth - 1.2 * distributed * depth + u[person, 1] + u[person, 2] * distributed + rnorm(12, 0, .7)[pair]
save(data.frame(
  participant = ids("p", 14)[person], pair = ids("q", 12)[pair], representation = c("local", "distributed")[distributed + 1],
  depth = depth, correct = draw(.5 + .5 * plogis(eta))
), "afc.csv")

# d. Counts in nested groups, with a known offset.
set.seed(44)
d <- expand.grid(row = 1:4, cask = 1:4, batch = 1:12)
d$x <- round(rnorm(nrow(d)), 3)
d$known <- round(rnorm(nrow(d), 0, .5), 3)
total <- sample(5:20, nrow(d), TRUE)
eta <- -.4 + .5 * d$x + d$known + rnorm(12, 0, .8)[d$batch] + rnorm(48, 0, .6)[(d$batch - 1) * 4 + d$cask]
successes <- rbinom(nrow(d), total, plogis(eta))
save(data.frame(
  batch = ids("b", 12)[d$batch], cask = letters[d$cask], x = d$x, known = d$known, successes = successes,
  failures = total - successes, total = total
), "nested.csv")

# e. Eight people, too few for the maximal model.
set.seed(55)
person <- rep(1:8, each = 60)
distributed <- rep(0:1, 240)
depth <- round(unlist(lapply(1:8, function(i) sample(rep(0:9 / 9, 6)))), 3)
u <- effects(8, c(.6, .5), .5)
eta <- .5 + .3 * distributed + .7 * depth - .5 * distributed * depth + u[person, 1] + u[person, 2] * distributed
save(data.frame(
  participant = ids("p", 8)[person], representation = c("local", "distributed")[distributed + 1], depth = depth, correct = draw(plogis(eta))
), "few.csv")

# f. A continuous response, people crossed with items.
set.seed(66)
d <- expand.grid(item = 1:15, person = 1:24)
level <- (d$item + d$person) %% 3 + 1
x <- round(runif(nrow(d), -1.5, 1.5), 3)
u <- effects(24, c(.5, .3), .4)
y <- 1.2 + c(0, .3, -.2)[level] + (.4 + c(0, .15, -.1)[level]) * x + u[d$person, 1] + u[d$person, 2] * x + rnorm(15, 0, .4)[d$item] + rnorm(nrow(d), 0, .6)
keep <- sort(sample(nrow(d), 330))
save(data.frame(participant = ids("p", 24)[d$person], item = ids("i", 15)[d$item], f = c("a", "b", "c")[level], x = x, y = round(y, 4))[keep, ], "gaussian.csv")

# g. Codings, bases and offsets. `block` does nothing.
set.seed(77)
person <- rep(1:20, each = 45)
n <- length(person)
f <- sample(3, n, TRUE, c(.45, .3, .25))
g <- sample(2, n, TRUE)
x <- round(runif(n, -2, 2), 3)
z <- round(rexp(n), 3)
known <- round(rnorm(n, 0, .4), 3)
u <- effects(20, c(.7, .5), .2)
eta <- .4 + c(0, .5, -.4)[f] + c(0, .3)[g] + .6 * x - .25 * x^2 + .1 * z + .3 * x * (f == 2) - .2 * x * (g == 2) + known + u[person, 1] + u[person, 2] * x
save(data.frame(
  participant = ids("p", 20)[person], block = ids("k", 10)[sample(10, n, TRUE)], f = c("a", "b", "c")[f], g = c("left", "right")[g],
  x = x, z = z, known = known, correct = draw(plogis(eta))
), "terms.csv")

# h. Confidence in four steps, response times and a right or wrong answer; layer is a coarse depth, in text.
set.seed(88)
person <- rep(1:20, each = 40)
pair <- unlist(lapply(1:20, function(i) sample(rep(1:20, 2))))
distributed <- unlist(lapply(1:20, function(i) sample(rep(0:1, 20))))
depth <- round((0:19 / 19)[pair], 3)
layer <- (pair - 1) %/% 4 + 1
u <- effects(20, c(.8, .6), -.3)
v <- rnorm(20, 0, .5)[pair]
eta <- -.4 * distributed + 1.2 * depth - .8 * distributed * depth + u[person, 1] + u[person, 2] * distributed + v
shown <- eta + exp(-.2 * distributed) * rlogis(800)
confidence <- 1 + (shown > -1) + (shown > .4) + (shown > 1.8)
u <- effects(20, c(.25, .15), .2)
rt <- .3 + exp(-.4 + .2 * distributed - .3 * depth + .1 * distributed * depth + u[person, 1] + u[person, 2] * distributed + rnorm(800, 0, .45))
rise <- c(0, .1, .6, .9, 1)[layer]
correct <- draw(plogis(-.2 + .4 * distributed + (1.5 - distributed) * rise + rnorm(20, 0, .6)[person]))
save(data.frame(
  participant = ids("p", 20)[person], pair = ids("q", 20)[pair], representation = c("local", "distributed")[distributed + 1],
  depth = depth, layer = paste0("layer", layer), confidence = confidence, rt = round(rt, 3), correct = correct
), "confidence.csv")
