"""What Outrider costs, compared in one run on one machine. See docs/performance.md."""
