"""Learning a score from cheap features: learners, and honest diagnostics of what they learnt. Arrays in, arrays out."""
