"""No password of any form is left in a text that was masked, and what is around it can still be read."""

from __future__ import annotations

import time
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from vehins.errors import UnreachableError
from vehins.masking import masked, masked_address, masked_words, redacted, remember

# Signs that mean something in an address, a shell or a regular expression, among others.
SIGNS = st.sampled_from("@:/?&#=% ;'\"\\$*+.,[](){}|<>~!éß漢aZ09")
PASSWORDS = st.text(SIGNS | st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=4, max_size=24)
# Every form of an address that docs/credentials.md gives; the last part is what must stay readable.
FORMS = [
    ("mongodb://ana:{}@db.example:27017/sales?collection=customers", ("ana", "db.example:27017", "sales", "customers")),
    ("mongodb+srv://ana:{}@db.example/sales?collection=customers", ("ana", "db.example", "sales", "customers")),
    ("mongodb://ana:{}@h1:27017,h2:27018/sales?collection=customers&replicaSet=rs0", ("h1:27017,h2:27018", "rs0")),
    ("postgresql://ana:{}@[::1]:5432/sales?table=public.customers", ("[::1]:5432", "sales", "public.customers")),
    ("mssql://ana:{}@db.example:1433/sales?table=dbo.customers", ("db.example:1433", "sales", "dbo.customers")),
    ("redshift://ana:{}@cluster.example:5439/sales?table=customers", ("cluster.example:5439", "sales", "customers")),
]


def looks_like_a_port(password: str) -> bool:
    """`host:12/...` is a host with its port, whatever stands behind it; a right address has no such password."""
    digits = len(password) - len(password.lstrip("0123456789"))
    return 0 < digits < 6 and password[digits : digits + 1] in {"/", "?", "#"}


def is_elsewhere(password: str, form: str) -> bool:
    return password in form.format("***")


@pytest.mark.parametrize(("form", "readable"), FORMS)
@given(password=PASSWORDS)
def test_no_password_is_left_in_an_address(form: str, readable: tuple[str, ...], password: str) -> None:
    for written in (quote(password, safe=""), quote_plus(password), quote(password)):
        assume(not is_elsewhere(written, form) and not is_elsewhere(password, form))
        for shown in (masked_address(form.format(written)), masked(form.format(written))):
            assert written not in shown
            assert password not in shown
            assert "***" in shown
            assert all(part in shown for part in readable)


@pytest.mark.parametrize(("form", "readable"), FORMS)
@given(password=PASSWORDS)
@example(password="000 ")
def test_nor_is_one_that_should_have_been_quoted(form: str, readable: tuple[str, ...], password: str) -> None:
    assume(not is_elsewhere(password, form) and not looks_like_a_port(password))
    assert password not in masked_address(form.format(password))


@given(password=PASSWORDS)
def test_nor_is_one_among_the_options(password: str) -> None:
    form = "mssql://db.example:1433/insurance?{}&table=dbo.customers"
    written = urlencode({"user": "ana@corp.example", "password": password})
    value = written.rpartition("=")[2]
    around = form.format("user=ana%40corp.example&password=***")
    assume(not is_elsewhere(value, around) and not is_elsewhere(password, around))
    for shown in (masked_address(form.format(written)), masked(form.format(written))):
        assert value not in shown
        assert password not in shown
        assert shown == around


@given(password=PASSWORDS, form=st.sampled_from([form for form, _ in FORMS]))
def test_masking_again_changes_nothing(password: str, form: str) -> None:
    shown = masked_address(form.format(quote(password)))
    assert masked_address(shown) == masked(shown) == redacted(shown) == shown


@pytest.mark.parametrize(
    "address",
    [
        "mongodb://db.example:27017/insurance?collection=a@b",
        "mongodb://h1:27017,h2:27017/insurance?query=a:b@c",
        "mssql://db.example:1433/insurance?user=ana@corp.example&table=dbo.customers",
        "postgresql://[::1]:5432/insurance?user=ana@corp.example",
        "postgresql://ana@db.example/insurance",
        "s3://bucket/prefix/*.parquet",
        "redshift://workgroup/insurance?table=a.b",
    ],
)
def test_an_address_without_a_password_stays_as_it_is(address: str) -> None:
    assert masked_address(address) == masked(address) == address


# --- Command lines ----------------------------------------------------------------------------------------------------

ADDRESS = "mongodb://ana:{}@db.example/insurance?collection=customers"
COMMANDS = [
    ("pipeline", "run", "--source", ADDRESS),
    ("pipeline", "run", f"--source={ADDRESS}"),
    ("ingest", "-s", ADDRESS),
    ("ingest", f"-s{ADDRESS}"),
    ("ingest", f"-s={ADDRESS}"),
    ("load", "customers.csv", "--to", ADDRESS),
    ("train", "--set", f"source={ADDRESS}"),
    ("train", f"--set=source={ADDRESS}"),
    ("train", "--set", "credentials.source_password={}"),
    ("train", "--set=credentials.source_password={}"),
    ("train", "--set", "credentials.target_password={}", "--json"),
    ("train", "--set", "credentials.source_pasword={}"),
    ("train", "--set", "source_password={}"),
    ("train", "--source-password={}"),
    (ADDRESS,),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@given(password=PASSWORDS)
def test_no_password_is_left_in_a_command_line(words: tuple[str, ...], password: str) -> None:
    assume(not any(is_elsewhere(password, word) for word in words))
    written = quote(password, safe="") if any(ADDRESS in word for word in words) else password
    assume(not any(is_elsewhere(written, word) for word in words))
    shown = masked_words([word.format(written) for word in words])
    assert len(shown) == len(words)
    assert not any(written in word or password in word for word in shown)
    assert shown == [word.format("***") for word in words]


@pytest.mark.parametrize(
    "words", [("--set", "credentials.source_user=ana"), ("--set", "credentials.source_secret=a/b")]
)
def test_names_of_users_and_secrets_are_no_secrets(words: tuple[str, ...]) -> None:
    assert masked_words(words) == list(words)


# --- Texts from elsewhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("connect(host='h', password='a b;c')", "connect(host='h', password='***')"),
        ('{"password": "a \\" b", "user": "u"}', '{"password": "***", "user": "u"}'),
        ("{'pwd': 'it''s'}", "{'pwd': '***'}"),
        ("Driver={x};Server=h;PWD=a b;Database=d", "Driver={x};Server=h;PWD=***;Database=d"),
        ("(mongodb://u:a@b@h/db) and (a://v:w@i)", "(mongodb://u:***@h/db) and (a://v:***@i)"),
        (
            "mongodb://h/db?authMechanismProperties=AWS_SESSION_TOKEN:abc&collection=c",
            "mongodb://h/db?authMechanismProperties=***&collection=c",
        ),
        ("mongodb://h/db?tlsCertificateKeyFilePassword=abc", "mongodb://h/db?tlsCertificateKeyFilePassword=***"),
    ],
)
def test_texts_of_drivers(said: str, shown: str) -> None:
    assert masked(said) == shown


@given(password=PASSWORDS, before=st.text(max_size=5), after=st.text(max_size=5))
def test_a_secret_that_is_known_is_hidden_wherever_it_stands(password: str, before: str, after: str) -> None:
    assume(password not in before + "***" + after)
    remember(password)
    for written in (password, quote(password), quote(password, safe=""), quote_plus(password), repr(password)[1:-1]):
        shown = redacted(f"{before}\n{written}\n{after}")
        assert password not in shown or password in "***"


def test_no_error_has_a_secret_that_is_known() -> None:
    remember("geheim wort")
    error = UnreachableError("It said geheim wort", detail="geheim%20wort", hint="try geheim+wort")
    assert error.as_dict() == {"headline": "It said ***", "detail": "***", "hint": "try ***", "exit_code": 6}
    assert str(error) == "It said ***"


def test_a_short_secret_does_not_blank_out_every_text() -> None:
    remember("a")
    remember(None)
    assert redacted("a table") == "a table"


@pytest.mark.parametrize(
    "text", ["a" * 300_000, "a-" * 150_000, "a:" * 150_000, "?a" * 150_000, "a://" * 75_000, "x=" * 150_000]
)
def test_long_texts_take_no_time(text: str) -> None:
    begin = time.process_time()
    masked(text)
    masked_address(text)
    assert time.process_time() - begin < 5
