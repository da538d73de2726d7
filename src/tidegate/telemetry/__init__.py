"""What people see of a running gateway: metrics, logs, access log. Never prompts or secrets."""
