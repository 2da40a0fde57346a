"""Rules of clouds: what Azure, Google Cloud and AWS enforce at the ends of connections, as their tools list it."""
