"""Run by the interpreter of an environment with boto3: calls an endpoint of SageMaker's as its users do.

    python sagemaker_client.py ADDRESS < requests.json

requests: arguments of `invoke_endpoint`, `Body` as a text, or in Base64 as `Base64`. ADDRESS stands in for AWS. Prints
what came back.
"""

import base64
import json
import sys

import boto3
from botocore.exceptions import ClientError

client = boto3.client(
    "sagemaker-runtime",
    endpoint_url=sys.argv[1],
    region_name="eu-central-1",
    aws_access_key_id="none",
    aws_secret_access_key="none",
)
answers = []
for request in json.load(sys.stdin):
    body = base64.b64decode(request.pop("Base64")) if "Base64" in request else request.pop("Body").encode()
    try:
        found = client.invoke_endpoint(EndpointName="regions", Body=body, **request)
        answers.append({"status": 200, "type": found["ContentType"], "body": found["Body"].read().decode()})
    except ClientError as error:
        told = error.response
        code = told["Error"]["Code"]
        answers.append({"code": code, "status": told["OriginalStatusCode"], "body": told["OriginalMessage"]})
print(json.dumps(answers))
