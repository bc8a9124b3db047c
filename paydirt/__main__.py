"""`python -m paydirt`, which `accelerate launch -m paydirt` uses."""

from paydirt.entry import main

main()
