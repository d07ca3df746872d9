"""Every built-in exploit family, by djinn's name."""

from __future__ import annotations

from foreshock.jobs.verify.builtin.families import (
    argument_injection_leak,
    environment_variable_manipulation,
    error_code_abuse,
    filesystem_exposure,
    function_attribute_flag,
    hardcoding_or_memorization,
    inadequate_test_coverage,
    magic_docstring_comment_token,
    process_exit,
    resource_exhaustion,
    result_manipulation,
    test_case_leak,
    test_cases_honor_system,
    type_confusion,
    validator_honor_system,
    verifier_logic_override,
)
from foreshock.jobs.verify.builtin.family import Family

_MODULES = (
    argument_injection_leak,
    environment_variable_manipulation,
    error_code_abuse,
    filesystem_exposure,
    function_attribute_flag,
    hardcoding_or_memorization,
    inadequate_test_coverage,
    magic_docstring_comment_token,
    process_exit,
    resource_exhaustion,
    result_manipulation,
    test_case_leak,
    test_cases_honor_system,
    type_confusion,
    validator_honor_system,
    verifier_logic_override,
)

FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in _MODULES}
"""Exploit type -> family."""
