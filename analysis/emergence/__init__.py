"""Does a type of exploit emerge later? Metrics, features, models and honest significance for a handful of samples."""
