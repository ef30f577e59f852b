"""The service that the tests of `tests/service` share serves these too."""

from tests.service.conftest import adaptive_path, server

__all__ = ["adaptive_path", "server"]
