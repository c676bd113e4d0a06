"""The resources of the template that moto's CloudFormation does not make, though its other services can."""

import json
from typing import Any

import boto3
from moto.core.common_models import CloudFormationModel


class Resource:
    """A resource that moto's CloudFormation does not make, though its other services can."""

    def __init__(self, physical_resource_id: str) -> None:
        self.physical_resource_id = physical_resource_id

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], *_where: str, **_more: object
    ) -> "Resource":
        """Make it by the service's own API; CloudFormation has given it a name if the template has none."""
        cls.make(resource_name, cloudformation_json["Properties"])
        return cls(resource_name)

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> None:
        raise NotImplementedError


class BucketPolicy(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::S3::BucketPolicy"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> None:
        del name
        policy = json.dumps(properties["PolicyDocument"])
        boto3.client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=policy)


class Alarm(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::CloudWatch::Alarm"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> None:
        boto3.client("cloudwatch").put_metric_alarm(**{"AlarmName": name} | properties)


class Schedule(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::Scheduler::Schedule"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> None:
        boto3.client("scheduler").create_schedule(**{"Name": name} | properties)


class QueuePolicy(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SQS::QueuePolicy"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> None:
        del name
        policy = json.dumps(properties["PolicyDocument"])
        for url in properties["Queues"]:
            boto3.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


RESOURCES = {resource.cloudformation_type() for resource in (BucketPolicy, Alarm, Schedule, QueuePolicy)}
"""The types that moto makes by this module; importing it is enough, as moto looks for the subclasses of its model."""
