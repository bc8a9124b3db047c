"""What everything costs: closed forms with their source, measured counts, and the ledger where both stand together."""
