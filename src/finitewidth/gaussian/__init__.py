"""Averages over Gaussian distributions, ⟨f(z)⟩_K: the one numerical tool that everything else stands on (PDLT ch. 1)."""
