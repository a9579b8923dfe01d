"""The settings: a frozen model, in a section for each stage or concern."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator


class Section(BaseModel):
    """A group of settings that belong to one stage or one concern."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SplitSettings(Section):
    """On which side of the split a customer falls."""

    salt: str = Field(
        "vehins", min_length=1, description="Text mixed into the hash of the key; another salt is another split."
    )
    valid: float = Field(0.16, gt=0, lt=1, description="Share of customers that decide when training stops.")
    test: float = Field(0.20, gt=0, lt=1, description="Share of customers that only the evaluation sees.")

    @model_validator(mode="after")
    def _leaves_train(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError("split.valid and split.test together leave nothing to train on")
        return self


class IngestSettings(Section):
    """How a source is read."""

    csv_delimiter: str = Field(",", description="The character between two CSV fields.")
    part_rows: int = Field(500_000, ge=1_000, description="Rows per Parquet part; bounds the memory of ingest.")
    query: str | None = Field(
        None, description="Which rows to read: a filter (extended JSON) for MongoDB, a statement for SQL databases."
    )
    since: str | None = Field(
        None,
        min_length=1,
        description="Field that tells when a customer changed: only later ones than in the last Dataset are read.",
    )

    @field_validator("csv_delimiter")
    @classmethod
    def _is_one_sign(cls, sign: str) -> str:
        sign = "\t" if sign == "\\t" else sign  # a shell does not make a tab of it
        if len(sign) != 1 or not sign.isascii() or sign in '"\r\n':
            raise ValueError("the delimiter is one ASCII character, and no quote (`\\t` is a tab)")
        return sign


class ValidateSettings(Section):
    """How much that is wrong is tolerated; rows within the tolerance are set aside."""

    max_missing_columns: int = Field(0, ge=0, description="Columns of the schema that may be absent from the source.")
    max_wrong_types: float = Field(
        0.0, ge=0, le=1, description="Share of rows with a value that is not of its column's type."
    )
    max_bad_values: float = Field(
        0.001, ge=0, le=1, description="Share of rows with a missing, forbidden or duplicated value."
    )


class TrainSettings(Section):
    """How the model is trained; what LightGBM has a name for is called so."""

    learning_rate: float = Field(0.05, gt=0, le=1, description="Shrinkage of each tree.")
    num_leaves: int = Field(31, ge=2, le=4096, description="Leaves per tree.")
    min_data_in_leaf: int = Field(100, ge=1, description="Customers per leaf, at least.")
    feature_fraction: float = Field(0.7, gt=0, le=1, description="Share of the features that each tree may use.")
    lambda_l2: float = Field(10.0, ge=0, description="L2 penalty on leaf values.")
    cat_smooth: float = Field(100.0, ge=0, description="Pulls rare categories towards the mean.")
    cat_l2: float = Field(50.0, ge=0, description="L2 penalty in splits on categories.")
    max_rounds: int = Field(1_000, ge=1, description="Trees, at most.")
    early_stopping_rounds: int = Field(
        30, ge=1, description="Stop when the valid side has not improved for this many trees."
    )
    min_improvement: float = Field(
        1e-5, ge=0, description="Gain in log loss that counts as an improvement for early stopping."
    )
    watched_rows: int = Field(
        250_000, ge=1_000, description="Customers of the valid side, at most, that early stopping looks at."
    )
    seed: int = Field(1, ge=0, lt=2**31, description="Seed of everything random in training.")
    seeds: int = Field(
        1, ge=1, le=100, description="Number of fits, with consecutive seeds, that are averaged into the model."
    )
    calibrate: Literal["auto", "never"] = Field(
        "auto", description="`auto`: add a calibrator where it helps on the valid side."
    )
    tune_minutes: float = Field(
        0.0, ge=0, le=10_080, description="Minutes of search for better settings of LightGBM; needs the extra `tune`."
    )
    tune_rows: int = Field(250_000, ge=1_000, description="Customers of the train side that the search uses, at most.")
    baseline_rows: int = Field(25_000, ge=1_000, description="Customers the baseline is fitted on, at most.")


class BusinessSettings(Section):
    """What a contact costs and a sale brings, in one currency."""

    contact_cost: float = Field(1.0, gt=0, description="Cost of contacting one customer.")
    sale_value: float = Field(
        5.0, gt=0, description="Margin of one sale; a customer is worth a call above cost / value."
    )
    capacity: int | None = Field(
        None, ge=1, description="Customers of the source that can be called, at most; by default all."
    )

    @model_validator(mode="after")
    def _can_pay(self) -> Self:
        if self.contact_cost >= self.sale_value:
            raise ValueError("business.contact_cost is not below business.sale_value: no call can ever pay")
        return self


class EvaluateSettings(Section):
    """How the test side is measured."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the two-sided intervals of the metrics.")
    slice_bins: int = Field(4, ge=2, le=20, description="Quantile bins that a column of amounts is sliced into.")


class GateSettings(Section):
    """What a challenger must show before it may replace the champion."""

    mode: Literal["better", "not-worse"] = Field(
        "better", description="`better`: beat the champion; `not-worse`: stay within the margin."
    )
    margin: float = Field(0.002, ge=0, lt=0.5, description="AUC that `not-worse` may lose.")
    confidence: float = Field(
        0.975, gt=0.5, lt=1, description="One-sided confidence of the comparison with the champion."
    )
    min_auc: float = Field(0.6, ge=0.5, lt=1, description="The lower end of the AUC's interval must reach this.")
    min_positives: int = Field(
        50, ge=1, description="Test customers of each class, at least, for a verdict to mean anything."
    )
    max_calibration_error: float = Field(
        0.01, ge=0, le=1, description="Mean distance of probability and observed rate, beyond what chance adds."
    )
    min_slice_positives: int = Field(
        50, ge=2, description="Customers of each class that a slice needs, at least, to be judged."
    )
    max_drift: float = Field(
        0.25, ge=0, description="Population stability index of a column against the champion's training rows, at most."
    )
    max_surprise: float = Field(
        5.0, gt=0, description="Standard errors by which the test side may differ in size and base rate, at most."
    )
    approve: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3)] | None = Field(
        None, description="Reason of a person who overrules a refusal; it is recorded."
    )


class RemoteSettings(Section):
    """Patience with stores beyond this machine."""

    connect_timeout: float = Field(10.0, gt=0, le=600, description="Seconds to wait for a connection.")
    read_timeout: float = Field(60.0, gt=0, le=3600, description="Seconds to wait for an answer.")
    attempts: int = Field(5, ge=1, le=20, description="How often to try what may be repeated without harm.")


class CredentialSettings(Section):
    """Logins for addresses that have none of their own; better kept in the environment than in a file."""

    source_user: str | None = Field(None, description="User for `source`.")
    source_password: SecretStr | None = Field(None, description="Password for `source`.")
    source_secret: str | None = Field(
        None, description="Secret in AWS Secrets Manager with `username` and `password` for `source`."
    )
    target_user: str | None = Field(None, description="User for `--to`.")
    target_password: SecretStr | None = Field(None, description="Password for `--to`.")
    target_secret: str | None = Field(
        None, description="Secret in AWS Secrets Manager with `username` and `password` for `--to`."
    )


class S3Settings(Section):
    """How S3 is reached; credentials come from AWS's own chain (environment, profile, instance role)."""

    endpoint_url: str | None = Field(None, description="Address of a store that speaks S3 and is not AWS.")
    region: str | None = Field(None, description="Region of the bucket; by default that of AWS's own settings.")
    path_style: bool = Field(False, description="Put the bucket into the path, as most other stores want it.")
    checksums: Literal["sha256", "none"] = Field(
        "sha256", description="`none` for a store that does not know AWS's checksum headers."
    )


class MongoSettings(Section):
    """How MongoDB is read."""

    reader: Literal["auto", "bson", "arrow"] = Field(
        "auto", description="`arrow` needs the extra `mongo-arrow`; `auto` takes it where it is installed."
    )


class RedshiftSettings(Section):
    """How Amazon Redshift unloads rows."""

    unload_to: str | None = Field(None, description="Prefix for unloaded files, `s3://bucket/prefix`.")
    iam_role: str | None = Field(None, description="ARN of the role that Redshift writes with; by default its own.")
    timeout: float = Field(3600.0, gt=0, description="Seconds that a statement may take.")


class ServeSettings(Section):
    """The HTTP service."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=256, description="Processes that serve; they share nothing but a cache of models.")
    version: int | None = Field(None, ge=1, description="Version to serve, wherever the alias points.")
    poll_seconds: float = Field(
        5.0, ge=0.1, le=3600, description="Seconds between two looks at the alias, give or take a tenth."
    )
    leave_seconds: float = Field(
        1.0,
        ge=0,
        le=600,
        description="Seconds from `/readyz` saying that the service ends until its port closes.",
    )
    drain_seconds: float = Field(10.0, gt=0, le=600, description="Seconds that requests under way have at the end.")
    allow_anonymous: bool = Field(False, description="Whether to answer others than this machine without an API key.")
    rate_limit: float = Field(
        0.0, ge=0, description="Requests per second and client in one process, at most; 0 sets no limit."
    )
    max_concurrent: int = Field(256, ge=1, description="Requests under way in one process, at most.")
    max_rows: int = Field(10_000, ge=1, description="Rows per request, at most.")
    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="Size of a request, at most.")
    request_timeout: float = Field(
        30.0, gt=0, le=3600, description="Seconds that a request may take, its body included."
    )
    hosts: str | None = Field(
        None,
        description="Names by which the service may be asked, separated by commas; those of this machine are always "
        "among them. By default any name, but no other where it listens on this machine alone and asks for no key.",
    )
    cors_origins: str | None = Field(
        None, description="Origins whose pages may ask, separated by commas; by default none but the service's own."
    )
    trusted_proxies: str | None = Field(
        None, description="Addresses or networks, separated by commas, whose X-Forwarded-For is believed."
    )
    access_log: bool = Field(True, description="Whether to log every request, as one JSON object a line on stderr.")


class CloudSettings(Section):
    """The stack in AWS; who may reach the service has no default."""

    stack: str = Field(
        "vehins",
        pattern=r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$",
        description="Name of the stack, its image repository, its parameters and its alarms.",
    )
    region: str | None = Field(
        None, pattern=r"^[a-z0-9-]+$", description="Region of the stack; by default that of AWS's own settings."
    )
    endpoint_url: str | None = Field(None, description="Address of what stands in for AWS, in a rehearsal.")
    box: bool = Field(True, description="Whether the stack has a machine that serves.")
    bucket: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="Bucket of an earlier stack to use again."
    )
    repository: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$|^[A-Za-z0-9_.-]+@\d+/[A-Za-z0-9_.-]+@\d+$",
        description="Repository on GitHub whose workflows may push images, deploy and train: `owner/name`, "
        "or `owner@id/name@id` as the tokens of one made since July 2026 name it.",
    )
    environment: str = Field(
        "production", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Environment on GitHub whose jobs may deploy."
    )
    retrain_environment: str = Field(
        "retraining", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Environment on GitHub whose jobs may train."
    )
    oidc_provider: str | None = Field(
        None,
        pattern=r"^arn:[a-z-]+:iam::\d{12}:oidc-provider/token\.actions\.githubusercontent\.com$",
        description="ARN of the account's provider for GitHub's tokens, if it has one; by default the stack makes it.",
    )
    runner_token: SecretStr | None = Field(
        None, description="Token with which the machine registers itself as a runner; GitHub's ends after an hour."
    )
    instance_type: Literal[
        "t3.small",
        "t3.medium",
        "t3.large",
        "t3.xlarge",
        "t3a.medium",
        "t3a.large",
        "t2.medium",
        "t2.large",
        "m7i.large",
        "c7i.large",
    ] = Field("t3.medium", description="Size of the machine.")
    disk_gb: int = Field(30, ge=16, le=1000, description="Gigabytes of its disk.")
    allowed_cidr: str | None = Field(
        None,
        pattern=r"^(\d{1,3}\.){3}\d{1,3}/\d{1,2}$",
        description="Range of addresses that reach the service, as 203.0.113.0/24; a machine needs one.",
    )
    vpc: str | None = Field(
        None, pattern=r"^vpc-[0-9a-f]+$", description="Network of the machine; by default the region's default one."
    )
    subnet: str | None = Field(
        None, pattern=r"^subnet-[0-9a-f]+$", description="Subnet of the machine; a network of your own needs one."
    )
    alarm_topic: str | None = Field(
        None, pattern=r"^arn:[a-z-]+:sns:", description="ARN of the SNS topic that alarms go to; by default none."
    )
    deploy_command: str = Field(
        "sudo -n /usr/local/bin/vehins-deploy",
        min_length=1,
        description="What `vehins cloud deploy --here` calls on the machine.",
    )
    timeout: float = Field(
        1800.0, gt=0, le=7200, description="Seconds to wait for a change of the stack, or for a deployment."
    )


class GcSettings(Section):
    """What `vehins gc` keeps."""

    keep_runs: int = Field(10, ge=1, description="Recent runs whose artifacts are kept.")


class Settings(BaseModel):
    """Everything that can be chosen; frozen, so that a run has one set of settings from start to end."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    workspace: Path = Field(Path(".vehins"), description="Folder of artifacts and runs.")
    source: str = Field(
        "demo://", description="Where customer rows come from: a file, a folder, or the address of a store."
    )
    schema_file: str = Field(
        "vehicle-insurance", description="Table schema: the name of a packaged one, or a TOML file."
    )
    registry: str | None = Field(
        None, description="Model registry: a folder or `s3://bucket/prefix`; by default `registry` in the workspace."
    )
    model_name: str = Field("vehicle-insurance", description="Name of the model in the registry.")
    alias: str = Field("production", description="Alias that a promoted version gets and that `serve` loads.")
    api_keys: SecretStr | None = Field(
        None,
        description="API keys of the service's clients, separated by commas, each of 16 characters or more; "
        "better kept in the environment.",
    )
    prediction_log: Path | None = Field(
        None, description="Folder in which `serve` keeps rows and scores; by default none."
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads for training and scoring; 0 takes all cores.")
    lock_timeout: float = Field(
        60.0, ge=0, description="Seconds to wait for another process that writes to the workspace."
    )
    split: SplitSettings = Field(default_factory=SplitSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    validate_: ValidateSettings = Field(default_factory=ValidateSettings, alias="validate")
    train: TrainSettings = Field(default_factory=TrainSettings)
    business: BusinessSettings = Field(default_factory=BusinessSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    remote: RemoteSettings = Field(default_factory=RemoteSettings)
    credentials: CredentialSettings = Field(default_factory=CredentialSettings)
    s3: S3Settings = Field(default_factory=S3Settings)
    mongodb: MongoSettings = Field(default_factory=MongoSettings)
    redshift: RedshiftSettings = Field(default_factory=RedshiftSettings)
    serve: ServeSettings = Field(default_factory=ServeSettings)
    cloud: CloudSettings = Field(default_factory=CloudSettings)
    gc: GcSettings = Field(default_factory=GcSettings)

    @property
    def registry_url(self) -> str:
        """Where the registry is."""
        return self.registry or str(self.workspace / "registry")

    @property
    def thread_count(self) -> int:
        """Threads to use: the setting, or the cores this process may run on."""
        if self.threads:
            return self.threads
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
