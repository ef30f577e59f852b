"""The exception tree of Tandem.

* TandemError
  x DataError        a data set that cannot be read or is not usable
  x BundleError      a bundle that is incomplete, corrupt or of another schema
  x DeviceError      a GPU was asked for that is not there
  x TrainingError    a training run that cannot go on as configured
  x RequestError     a request that breaks a rule; the service maps it to a 4xx

Every message states the constraint, the value received and the way out.
"""


class TandemError(Exception):
    """Base of every error Tandem raises on purpose."""


class DataError(TandemError):
    """A data set cannot be read, or what it holds is not usable."""


class BundleError(TandemError):
    """A bundle is incomplete, corrupt, or of a schema this version does not read."""


class DeviceError(TandemError):
    """A GPU was asked for, and none works."""


class TrainingError(TandemError):
    """A training run cannot go on as configured."""


class RequestError(TandemError):
    """A request breaks a rule of the interface."""
