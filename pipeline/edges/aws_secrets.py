"""Secrets that a setting names by their ARN: of AWS Secrets Manager, or parameters of SSM."""

import re
from functools import cache
from http import HTTPStatus

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from pipeline.edges.aws import open_aws
from pipeline.edges.patience import Patience
from pipeline.errors import PipelineError, Refused, Retryable
from pipeline.settings import BARE

_ARN = re.compile(
    r"arn:aws[a-z-]*:(?P<service>secretsmanager|ssm):(?P<region>[a-z0-9-]+):\d{12}:(secret:|parameter/)[!-~]+"
)
_FORMS = "arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME"
_ALLOWED_BY = {"secretsmanager": "secretsmanager:GetSecretValue", "ssm": "ssm:GetParameter"}
_THROTTLED = {"ThrottlingException", "TooManyRequestsException"}


@cache
def read_secret(setting: str, arn: str, patience: Patience) -> str:
    """The value of a secret, read once a process; `setting` is whom an error names.

    Raises:
        Refused: `configuration`, where there is no such secret, it is not ours to read, or it holds no key.
        Retryable: `store_unavailable`, when AWS does not answer.
    """
    named = _ARN.fullmatch(arn)
    if named is None:  # not quoted: it may be the secret itself
        raise Refused("configuration", f"{setting} is no ARN of a secret: give {_FORMS}.")
    value = _fetch(setting, arn, named["service"], named["region"], patience).strip()
    if not BARE.fullmatch(value):
        raise Refused(
            "configuration",
            f"{setting}: {arn} holds no text, or more than letters, digits and signs. Put the bare value there, "
            "without JSON.",
        )
    return value


def _fetch(setting: str, arn: str, service: str, region: str, patience: Patience) -> str:
    client = open_aws(service, f"{setting} ({arn})", patience, region=region)
    try:
        if service == "ssm":
            return str(client.get_parameter(Name=arn, WithDecryption=True)["Parameter"]["Value"])
        return str(client.get_secret_value(SecretId=arn).get("SecretString", ""))
    except ClientError as error:
        code = str(error.response["Error"].get("Code"))
        raise _answered(setting, arn, service, code, error.response["ResponseMetadata"]["HTTPStatusCode"]) from error
    except (NoCredentialsError, PartialCredentialsError, ParamValidationError) as error:
        raise Refused("configuration", f"AWS cannot be asked for {setting} ({arn}): {error}.") from error
    except BotoCoreError as error:
        raise Retryable("store_unavailable", f"AWS cannot be reached for {setting}: {error}.") from error


def _answered(setting: str, arn: str, service: str, code: str, status: int) -> PipelineError:
    says = f"AWS answers {code} for {setting} ({arn})."
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _THROTTLED:
        return Retryable("store_unavailable", f"{says} Try again later.")
    return Refused("configuration", f"{says} Check that it is there, and that we may {_ALLOWED_BY[service]}.")
