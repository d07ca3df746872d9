"""When will the unprompted exploit rate pass a threshold? A growth model, its forecasts and their scores."""
