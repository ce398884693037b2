"""Files as the operating system sees them: whole files, locks, durable writes."""
