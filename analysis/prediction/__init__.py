"""Predicting the next and the final exploit rate in logit space, and comparing the predictors."""
