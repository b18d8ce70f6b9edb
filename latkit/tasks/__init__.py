"""What a user asks for as a whole: one module a task, from a frozen request to a frozen result."""
