"""Other people's tools: selections in the forms and under the names they expect, and published files as our own."""
