"""`python -m paydirt`, which `accelerate launch -m paydirt` uses."""

from paydirt.cli import main

main()
