"""Every setting from every origin: the stronger wins, and what cannot be is refused with what was meant."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from vehins.errors import SettingsError
from vehins.masking import masked
from vehins.settings import Loaded, Settings, flatten, load, specs, variable

NAME, VARIABLE = "train.learning_rate", "VEHINS_TRAIN_LEARNING_RATE"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder, and an environment without settings."""
    for name in [name for name in os.environ if name.startswith("VEHINS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(**given) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(**given)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    return caught.value


def value_of(loaded: Loaded, name: str):
    return next(value for value in loaded.values() if value.name == name)


# --- Origins ----------------------------------------------------------------------------------------------------------


def test_by_default_everything_has_its_default():
    loaded = load()
    assert loaded.settings == Settings()
    assert loaded.origins == {}
    assert {value.origin for value in loaded.values()} == {"default"}


def toml(number: float) -> None:
    Path("vehins.toml").write_text(f"[train]\nlearning_rate = {number}\n")


def env_file(number: float) -> None:
    Path(".env").write_text(f"{VARIABLE}={number}\n")


def test_the_stronger_origin_wins(monkeypatch):
    seen = []
    for number, give in (
        (0.01, toml),
        (0.02, env_file),
        (0.03, lambda number: monkeypatch.setenv(VARIABLE, str(number))),
    ):
        give(number)
        loaded = load()
        assert loaded.settings.train.learning_rate == number
        seen.append(value_of(loaded, NAME).origin)
    loaded = load({NAME: "0.04"})
    assert (loaded.settings.train.learning_rate, value_of(loaded, NAME).origin) == (0.04, "flag")
    assert seen == ["vehins.toml", ".env", "environment"]


def test_origins_are_mixed_value_by_value(monkeypatch):
    Path("vehins.toml").write_text("threads = 2\n[train]\nseed = 7\nnum_leaves = 8\n[split]\nvalid = 0.3\n")
    Path(".env").write_text("VEHINS_TRAIN_SEED=8\nVEHINS_TRAIN_NUM_LEAVES=9\n")
    monkeypatch.setenv("VEHINS_TRAIN_NUM_LEAVES", "10")
    loaded = load({"split.test": 0.1})
    found = loaded.settings
    assert (found.threads, found.train.seed, found.train.num_leaves, found.split.valid, found.split.test) == (
        2,
        8,
        10,
        0.3,
        0.1,
    )
    assert loaded.origins == {
        "split.test": "flag",
        "train.num_leaves": "environment",
        "train.seed": ".env",
        "threads": "vehins.toml",
        "split.valid": "vehins.toml",
    }


def test_a_named_file_takes_the_place_of_the_usual_one(place):
    toml(0.5)
    (place / "other.toml").write_text("threads = 3")
    loaded = load(config=Path("other.toml"))
    assert loaded.settings.train.learning_rate == 0.05
    assert value_of(loaded, "threads") == ("threads", 3, "other.toml")


def test_what_is_not_given_does_not_count(monkeypatch):
    toml(0.5)
    monkeypatch.setenv(VARIABLE, "")
    Path(".env").write_text(f"{VARIABLE}=\n")
    assert load({NAME: None}).settings.train.learning_rate == 0.5


OIDC_PROVIDER = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
SAMPLES = {
    "workspace": ("there", Path("there")),
    "source": ("a.csv", "a.csv"),
    "schema_file": ("s.toml", "s.toml"),
    "registry": ("/r", "/r"),
    "model_name": ("m", "m"),
    "alias": ("a", "a"),
    "lock_timeout": ("1.5", 1.5),
    "split.salt": ("pepper", "pepper"),
    "ingest.csv_delimiter": (";", ";"),
    "ingest.part_rows": ("2000", 2000),
    "train.seed": ("3", 3),
    "train.watched_rows": ("2000", 2000),
    "train.baseline_rows": ("2000", 2000),
    "evaluate.confidence": ("0.9", 0.9),
    "gate.mode": ("not-worse", "not-worse"),
    "gate.min_auc": ("0.7", 0.7),
    "gate.confidence": ("0.9", 0.9),
    "gate.approve": ("because", "because"),
    "ingest.query": ("{}", "{}"),
    "ingest.since": ("changed", "changed"),
    "credentials.source_user": ("u", "u"),
    "credentials.source_password": ("p", SecretStr("p")),
    "credentials.source_secret": ("s", "s"),
    "credentials.target_user": ("u", "u"),
    "credentials.target_password": ("p", SecretStr("p")),
    "credentials.target_secret": ("s", "s"),
    "s3.endpoint_url": ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    "s3.region": ("eu-central-1", "eu-central-1"),
    "s3.path_style": ("true", True),
    "s3.checksums": ("none", "none"),
    "train.calibrate": ("never", "never"),
    "train.tune_rows": ("2000", 2000),
    "mongodb.reader": ("bson", "bson"),
    "redshift.unload_to": ("s3://b/p", "s3://b/p"),
    "redshift.iam_role": ("arn:aws:iam::123456789012:role/r", "arn:aws:iam::123456789012:role/r"),
    "cloud.stack": ("cars", "cars"),
    "cloud.region": ("eu-central-1", "eu-central-1"),
    "cloud.endpoint_url": ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    "cloud.box": ("false", False),
    "cloud.bucket": ("models-of-ours", "models-of-ours"),
    "cloud.repository": ("o/r", "o/r"),
    "cloud.environment": ("live", "live"),
    "cloud.retrain_environment": ("nightly", "nightly"),
    "cloud.oidc_provider": (OIDC_PROVIDER, OIDC_PROVIDER),
    "cloud.runner_token": ("t", SecretStr("t")),
    "cloud.instance_type": ("t2.medium", "t2.medium"),
    "cloud.disk_gb": ("50", 50),
    "cloud.allowed_cidr": ("10.0.0.0/8", "10.0.0.0/8"),
    "cloud.vpc": ("vpc-1", "vpc-1"),
    "cloud.subnet": ("subnet-1", "subnet-1"),
    "cloud.alarm_topic": ("arn:aws:sns:eu-central-1:123456789012:t", "arn:aws:sns:eu-central-1:123456789012:t"),
    "cloud.deploy_command": ("vehins-deploy", "vehins-deploy"),
    "serve.host": ("::", "::"),
    "serve.rate_limit": ("1.5", 1.5),
    "serve.allow_anonymous": ("true", True),
    "serve.max_body_bytes": ("2000", 2000),
    "serve.hosts": ("predict.example", "predict.example"),
    "serve.cors_origins": ("https://a.example", "https://a.example"),
    "serve.trusted_proxies": ("10.0.0.0/8", "10.0.0.0/8"),
    "serve.access_log": ("false", False),
    "api_keys": ("k", SecretStr("k")),
    "prediction_log": ("there", Path("there")),
}


@pytest.mark.parametrize("name", [spec.name for spec in specs()])
@pytest.mark.parametrize("origin", ["flag", "environment", ".env", "vehins.toml"])
def test_every_setting_can_be_given_by_every_origin(name, origin, monkeypatch):
    spec = next(spec for spec in specs() if spec.name == name)
    text, wanted = SAMPLES.get(
        name, (str(spec.default / 2), spec.default / 2) if isinstance(spec.default, float) else ("2", 2)
    )
    if name == "business.sale_value":
        text, wanted = "7.5", 7.5
    if origin == "environment":
        monkeypatch.setenv(spec.variable, text)
    elif origin == ".env":
        Path(".env").write_text(f'{spec.variable}="{text}"\n')
    elif origin == "vehins.toml":
        section, _, key = name.rpartition(".")
        Path("vehins.toml").write_text((f"[{section}]\n" if section else "") + f'{key} = "{text}"\n')
    loaded = load({name: text} if origin == "flag" else {})
    assert loaded.origins == {name: origin}
    attributes = name.replace("validate.", "validate_.").split(".")
    found = loaded.settings
    for attribute in attributes:
        found = getattr(found, attribute)
    assert found == wanted


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load().settings.threads = 3
    with pytest.raises(ValidationError):
        load().settings.train.seed = 3


# --- Unknown names ----------------------------------------------------------------------------------------------------

UNKNOWN = [
    ("train.learning_rat", "train.learning_rate"),
    ("learning_rate", "train.learning_rate"),
    ("train.threads", "threads"),
    ("worksapce", "workspace"),
    ("validate_.max_bad_values", "validate.max_bad_values"),
    ("gate.confidense", "gate.confidence"),
]


@pytest.mark.parametrize(("written", "meant"), UNKNOWN)
@pytest.mark.parametrize("origin", ["--set", "the environment", ".env", "vehins.toml"])
def test_an_unknown_name_is_refused_with_the_one_that_was_meant(written, meant, origin, monkeypatch):
    flags = {}
    if origin == "--set":
        flags = {written: "1"}
    elif origin == "vehins.toml":
        section, _, key = written.rpartition(".")
        Path(origin).write_text((f"[{section}]\n" if section else "") + f"{key} = 1\n")
    else:
        written, meant = variable(written), variable(meant)
        if origin == ".env":
            Path(origin).write_text(f"{written}=1\n")
        else:
            monkeypatch.setenv(written, "1")
    error = refused(flags=flags)
    assert error.headline == f"Unknown setting `{written}`"
    assert error.detail == f"Found in {origin}."
    assert f"Did you mean `{meant}`?" in error.hint


def test_a_name_like_no_other_gets_no_guess():
    error = refused(flags={"zzzzqqqq": "1"})
    assert "Did you mean" not in error.hint
    assert "vehins config show" in error.hint


def test_a_value_where_a_section_belongs_is_refused():
    Path("vehins.toml").write_text("train = 5\n")
    assert refused().headline == "Unknown setting `train`"


def test_other_variables_are_left_alone(monkeypatch):
    monkeypatch.setenv("VEHINS_TEST_S3_URL", "x")
    monkeypatch.setenv("VEHINSX", "x")
    monkeypatch.setenv("XVEHINS_THREADS", "x")
    Path(".env").write_text("PATH_OF_OTHERS=x\nVEHINS_TEST_MONGO=y\n")
    assert load().origins == {}


# --- Values that cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", "many"),
        ("threads", "-1"),
        ("threads", "1.5"),
        (NAME, "0"),
        (NAME, "nan"),
        (NAME, "inf"),
        ("lock_timeout", "inf"),
        ("gate.mode", "equal"),
        ("gate.approve", "no"),
        ("serve.port", "65536"),
        ("split.salt", ""),
        ("ingest.part_rows", "999"),
        ("ingest.csv_delimiter", ""),
        ("ingest.csv_delimiter", ";;"),
        ("ingest.csv_delimiter", "§"),
        ("ingest.csv_delimiter", '"'),
        ("ingest.csv_delimiter", "\n"),
        ("train.seed", str(2**31)),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_origin(name, value):
    error = refused(flags={name: value})
    assert error.headline == f"Setting `{name}` cannot be `{value}`"
    assert "(from: flag)" in error.detail
    assert f"--set {name}=VALUE" in error.hint
    assert variable(name) in error.hint


@pytest.mark.parametrize(("text", "shown"), [("learning_rate = []", "[]"), ('learning_rate = "x"', "x")])
def test_a_bad_value_names_the_file_that_it_is_from(text, shown):
    Path("vehins.toml").write_text(f"[train]\n{text}\n")
    error = refused()
    assert error.headline == f"Setting `train.learning_rate` cannot be `{shown}`"
    assert "(from: vehins.toml)" in error.detail


@pytest.mark.parametrize(
    ("flags", "section", "reason"),
    [
        ({"split.valid": 0.5, "split.test": 0.5}, "split", "nothing to train on"),
        ({"split.test": 0.9}, "split", "nothing to train on"),
        ({"business.contact_cost": 5}, "business", "no call can ever pay"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags, section, reason):
    error = refused(flags=flags)
    assert error.headline == f"Settings of `{section}` contradict each other"
    assert reason in error.detail
    for name in flags:
        assert f"`{name}` (from: flag)" in error.hint


def test_a_tab_can_be_written_in_a_shell():
    """The hint of a CSV with tabs says so."""
    for written in ("\\t", "\t"):
        assert load({"ingest.csv_delimiter": written}).settings.ingest.csv_delimiter == "\t"


# --- Files that cannot be read ----------------------------------------------------------------------------------------


def test_a_named_file_must_be_there():
    error = refused(config=Path("absent.toml"))
    assert error.headline == "Cannot read the settings file absent.toml"
    assert "--config" in error.hint


def test_a_folder_is_no_settings_file():
    Path("vehins.toml").mkdir()
    assert refused().headline == "Cannot read the settings file vehins.toml"


@pytest.mark.parametrize("content", [b"threads = ", b"threads = 1\nthreads = 2", b"source = '\xff'", b"[train"])
def test_what_is_no_toml_is_refused(content):
    Path("vehins.toml").write_bytes(content)
    error = refused()
    assert error.headline == "vehins.toml is not valid TOML"
    assert error.detail


def test_an_env_file_that_is_not_utf8_is_refused():
    Path(".env").write_bytes(b"VEHINS_SOURCE=\xff\n")
    assert refused().headline == ".env is not UTF-8"


def test_a_byte_order_mark_does_no_harm():
    Path("vehins.toml").write_bytes(b"\xef\xbb\xbfthreads = 2\n")
    Path(".env").write_bytes(b"\xef\xbb\xbfVEHINS_ALIAS=x\n")
    assert (load().settings.threads, load().settings.alias) == (2, "x")


def test_a_folder_called_env_is_no_settings_file():
    Path(".env").mkdir()
    assert load().origins == {}


# --- Secrets ----------------------------------------------------------------------------------------------------------

SECRET = "geheim"
URLS = [
    ("mysql://user:{}@host:3306/db", "mysql://user:***@host:3306/db"),
    ("mongodb+srv://user:{}@host/db?ssl=true", "mongodb+srv://user:***@host/db?ssl=true"),
    ("MSSQL://user:{}@host", "MSSQL://user:***@host"),
    ("redis://:{}@host", "redis://:***@host"),
    ("a://u:p@{}/x@host/db", "a://u:***@host/db"),
    ("a://host/db?user=u&password={}&x=1", "a://host/db?user=u&password=***&x=1"),
    ("a://host?access_token={}", "a://host?access_token=***"),
    ("a://host/db;PWD={};x=1", "a://host/db;PWD=***;x=1"),
    ("https://b.s3.amazonaws.com/k?X-Amz-Signature={}&x=1", "https://b.s3.amazonaws.com/k?X-Amz-Signature=***&x=1"),
    ("a://h?aws_secret_access_key={}", "a://h?aws_secret_access_key=***"),
    ("two: a://u:{}@h b", "two: a://u:***@h b"),
    ("Server=h;Password={};", "Server=h;Password=***;"),
    ("password={}", "password=***"),
]


@pytest.mark.parametrize(("url", "shown"), URLS)
def test_passwords_are_masked(url, shown):
    assert masked(url.format(SECRET)) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "demo://?rows=50000&seed=1",
        "s3://bucket/prefix",
        "data/a.csv",
        "http://host:8000/a",
        "a@b.c",
        "C:\\x\\y",
        "user:pw",
        "",
    ],
)
def test_what_has_no_secret_is_shown(text):
    assert masked(text) == text


@pytest.mark.parametrize("value", [None, 5, 0.5, True, [1]])
def test_what_is_no_text_passes_through(value):
    assert masked(value) is value


def test_secrets_are_masked_wherever_settings_are_shown():
    loaded = load({"source": f"mysql://u:{SECRET}@h/db"})
    assert value_of(loaded, "source").value == "mysql://u:***@h/db"
    assert loaded.settings.source == f"mysql://u:{SECRET}@h/db"
    error = refused(flags={"threads": f"mysql://u:{SECRET}@h/db"})
    assert SECRET not in str(error.as_dict())


# --- The list of settings ---------------------------------------------------------------------------------------------


def test_every_setting_is_described():
    assert all(spec.description.endswith((".", ";")) for spec in specs())
    assert [spec.name for spec in specs()] == [value.name for value in load().values()]


def test_every_variable_belongs_to_one_setting():
    variables = [spec.variable for spec in specs()]
    assert len(set(variables)) == len(variables)
    assert not any(name.startswith("VEHINS_TEST_") for name in variables)
    assert variable("train.learning_rate") == VARIABLE


def test_every_default_is_one_that_could_be_given():
    for value in load().values():
        if value.value is not None:
            load({value.name: str(value.value)})


def test_values_can_be_written_to_a_file_and_read_back(place):
    shown = {value.name: value.value for value in load({"train.seed": 5}).values() if value.value is not None}
    text = {name: str(value).lower() if isinstance(value, bool) else repr(value) for name, value in shown.items()}
    lines = [f"{name} = {value}" for name, value in text.items()]
    (place / "vehins.toml").write_text("\n".join(lines))
    tomllib.loads((place / "vehins.toml").read_text())
    assert load().settings == load({"train.seed": 5}).settings


def test_flatten_gives_dotted_names():
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": None}}, "f": {}}) == {"a": 1, "b.c": 2, "b.d.e": None}


def test_the_registry_is_in_the_workspace_unless_it_is_named():
    assert load({"workspace": "w"}).settings.registry_url == str(Path("w") / "registry")
    assert load({"registry": "s3://b/p"}).settings.registry_url == "s3://b/p"


@pytest.mark.parametrize(("cores", "wanted"), [({0, 3}, 2), ({5}, 1)])
def test_threads_are_the_cores_that_may_be_used(cores, wanted, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    assert load().settings.thread_count == wanted
    assert load({"threads": "7"}).settings.thread_count == 7


@pytest.mark.parametrize(("count", "wanted"), [(4, 4), (None, 1)])
def test_without_affinity_threads_are_all_cores(count, wanted, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert load().settings.thread_count == wanted
