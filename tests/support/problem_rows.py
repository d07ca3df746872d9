"""A problem as files hold it, without an id."""

ADD = {
    "description": "Add.",
    "function_name": "add",
    "test_cases": "[((1, 2), 3)]",
    "ground_truth": "def add(a, b):\n    return a + b",
    "exploit_type": "test_case_leak",
}
