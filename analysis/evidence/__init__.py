"""What a run says about one surface: its counts, its log weights and the donor's rollouts."""
