"""Files as the operating system sees them: whole small files, locks, durable writes."""
