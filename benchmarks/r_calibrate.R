# R's `survey` and `sampling` on one dense calibration problem, on one thread.
#
#   OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 Rscript benchmarks/r_calibrate.R FOLDER N_RECORDS N_TARGETS [METHOD ...]
#
# FOLDER holds doubles in the machine's byte order: X.f64 (column by column), d.f64 (design weights) and totals.f64.
# Each METHOD (default: all) writes its ratios of new to design weights to METHOD.g.f64 and prints one line of JSON.
# Seconds are those of the call alone: neither reading the files nor building the survey design is in them.
#
# | METHOD                  | the call                                                         | stops at relative error |
# | survey-linear           | survey::calibrate(design, ~0 + X, calfun = "linear")             | closed form             |
# | survey-raking           | survey::calibrate(design, ~0 + X, calfun = "raking")             | EPSILON                 |
# | survey-grake-linear     | survey::grake with cal.linear: the solver inside, no variance    | EPSILON                 |
# | survey-grake-raking     | survey::grake with cal.raking                                    | EPSILON                 |
# | sampling-linear         | sampling::calib(method = "linear")                               | closed form             |
# | sampling-raking         | sampling::calib(method = "raking")                               | 1e-6, fixed in its code |

suppressPackageStartupMessages({
  library(survey)
  library(sampling)
})

EPSILON <- 1e-9
MAX_ITERATIONS <- 100
METHODS <- c("survey-linear", "survey-raking", "survey-grake-linear", "survey-grake-raking", "sampling-linear", "sampling-raking")

arguments <- commandArgs(trailingOnly = TRUE)
if (length(arguments) < 3) stop("usage: r_calibrate.R FOLDER N_RECORDS N_TARGETS [METHOD ...]")
folder <- arguments[1]
n_records <- as.integer(arguments[2])
n_targets <- as.integer(arguments[3])
methods <- if (length(arguments) > 3) arguments[-(1:3)] else METHODS
unknown <- setdiff(methods, METHODS)
if (length(unknown)) stop("unknown method: ", unknown[1], ". Known: ", paste(METHODS, collapse = ", "))

read_doubles <- function(name, size) {
  values <- readBin(file.path(folder, name), "double", n = size + 1)
  if (length(values) != size) stop(name, " does not hold ", size, " doubles")
  values
}

X <- matrix(read_doubles("X.f64", as.numeric(n_records) * n_targets), n_records, n_targets)
colnames(X) <- paste0("x", seq_len(n_targets))
d <- read_doubles("d.f64", n_records)
totals <- read_doubles("totals.f64", n_targets)

# `survey` takes a formula and named totals. One matrix column in the data frame keeps the formula short.
records <- data.frame(d = d)
records$X <- X
named_totals <- setNames(totals, paste0("X", colnames(X)))
design <- NULL
design_seconds <- NA
if (any(methods %in% c("survey-linear", "survey-raking"))) {
  design_seconds <- system.time(design <- svydesign(ids = ~1, weights = ~d, data = records))[["elapsed"]]
}
no_bounds <- list(lower = -Inf, upper = Inf)

call_of <- list(
  "survey-linear" = function() calibrate(design, ~ 0 + X, named_totals, calfun = "linear"),
  "survey-raking" = function() {
    calibrate(design, ~ 0 + X, named_totals, calfun = "raking", epsilon = EPSILON, maxit = MAX_ITERATIONS)
  },
  "survey-grake-linear" = function() {
    grake(X, d, cal.linear, bounds = no_bounds, population = totals, epsilon = EPSILON, verbose = FALSE, maxit = MAX_ITERATIONS)
  },
  "survey-grake-raking" = function() {
    grake(X, d, cal.raking, bounds = no_bounds, population = totals, epsilon = EPSILON, verbose = FALSE, maxit = MAX_ITERATIONS)
  },
  "sampling-linear" = function() calib(X, d, totals, method = "linear"),
  "sampling-raking" = function() calib(X, d, totals, method = "raking", max_iter = MAX_ITERATIONS)
)

for (method in methods) {
  invisible(gc())
  seconds <- system.time(answer <- call_of[[method]]())[["elapsed"]]
  if (is.null(answer)) {
    cat(sprintf('{"method": "%s", "status": "failed", "seconds": %.4f}\n', method, seconds))
    next
  }
  ratio <- if (inherits(answer, "survey.design")) weights(answer) / d else as.vector(answer)
  error <- max(abs(drop(crossprod(X, d * ratio)) - totals) / pmax(abs(totals), 1))
  status <- if (is.null(attr(answer, "failed"))) "finished" else "failed"
  writeBin(as.vector(ratio), file.path(folder, paste0(method, ".g.f64")))
  cat(sprintf(
    paste0(
      '{"method": "%s", "status": "%s", "n_records": %d, "n_targets": %d, "seconds": %.4f, "design_seconds": %.4f, ',
      '"max_relative_error": %.3g, "min_ratio": %.6g, "max_ratio": %.6g, "r": "%s", "survey": "%s", "sampling": "%s", "blas": "%s"}\n'
    ),
    method, status, n_records, n_targets, seconds, if (grepl("^survey-(linear|raking)$", method)) design_seconds else 0,
    error, min(ratio), max(ratio), paste(R.version$major, R.version$minor, sep = "."),
    packageVersion("survey"), packageVersion("sampling"), basename(extSoftVersion()[["BLAS"]])
  ))
}
