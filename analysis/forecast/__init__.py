"""When will the unprompted exploit rate pass a threshold? A growth model, its rivals, their forecasts and scores."""
