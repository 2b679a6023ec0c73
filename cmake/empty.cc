// Temporary: stands in for a folder without sources yet.
