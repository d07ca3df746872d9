"""The one place that turns a problem and a prefill into token ids."""
