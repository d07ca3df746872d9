"""djinn's verifiers behind foreshock's seam: its flawed verifiers, our sandbox, our judge."""
