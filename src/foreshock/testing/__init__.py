"""Contract suites for what you bring yourself: inherit one in a test of yours and provide its fixtures.

    foreshock.testing.verifiers   VerifierContract, VerifierSpecContract
    foreshock.testing.engines     EngineContract, EngineSpecContract

They need pytest, which foreshock itself does not install. CONTRIBUTING.md says what to inherit; examples/ holds a
package that does.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("foreshock.testing.verifiers", "foreshock.testing.engines")
