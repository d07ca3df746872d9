"""The test that a checkpoint passes before anything of it is believed."""
