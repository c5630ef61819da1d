"""What one looks at afterwards: logs, what a work dir has, figures, comparisons, the report. Never trains."""
