"""Objects of a real server that speaks S3 are read as files are; faults are those of a scripted one."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from server_process import free_port
from small_tables import CUSTOMERS, HEADER, read
from vehins_runner import customers, folders, manifest

from vehins.data.sources import ReadOptions, open_source, s3
from vehins.errors import CredentialsError, NotFoundError, SettingsError, SourceFormatError, UnreachableError
from vehins.settings import RemoteSettings, S3Settings


def rows(*ids: int) -> bytes:
    return (HEADER + "".join(f"{i},x,40,,1\n" for i in ids)).encode()


def ids(store, path, **more):
    return [int(i) for batch in read(f"{store.url}/{path}", **store.options, **more) for i in batch["id"]]


def test_an_object_a_folder_and_a_glob(store, tmp_path):
    for number, key in enumerate(["in/a1.csv", "in/a2.csv", "in/b.csv", "in/deep/a3.csv", "input/c.csv"]):
        store.put(key, rows(number))
    for key in ("in/.hidden.csv", "in/readme.txt", "in/_SUCCESS"):
        store.put(key, b"x")
    assert ids(store, "in/a1.csv") == [0]
    assert ids(store, "in") == ids(store, "in/") == [0, 1, 2, 3]
    assert ids(store, "in/a*.csv") == [0, 1]
    assert ids(store, "in/a[!1].csv") == [1]
    assert ids(store, "in/**/a?.csv") == [0, 1, 3]
    assert ids(store, "*/c.csv") == [4]


@pytest.mark.parametrize("key", ["a[1].csv", "a?.csv", "../../a.csv", "ä 😀%20+.csv", "x" * 300 + ".csv"])
def test_a_key_is_taken_as_it_is(store, key):
    store.put(key, rows(1))
    store.put("a1.csv", rows(2))
    assert ids(store, key) == [1]


def test_a_dataset_is_that_of_a_file_and_is_reused_until_the_object_changes(vehins, store, tmp_path):
    frame = customers()
    frame.write_csv("rows.csv")
    frame.write_csv("rows.tsv", separator="\t")
    frame.write_parquet("rows.parquet")
    found = set()
    for name in ("rows.csv", "rows.tsv", "rows.parquet"):
        url = store.put(f"{name}/{name}", tmp_path / name)
        for source in (name, url):
            vehins("ingest", "--source", source, *store.words)
            found.add(manifest("Dataset")["content"])
    assert len(found) == 1
    count = len(folders("Dataset"))
    vehins("ingest", "--source", url, *store.words)
    assert len(folders("Dataset")) == count
    frame[:2000].write_parquet("rows.parquet")
    store.put("rows.parquet/rows.parquet", tmp_path / "rows.parquet")
    vehins("ingest", "--source", url, *store.words)
    assert manifest("Dataset")["result"]["rows"] == 2000
    assert not list(tmp_path.rglob("object-*"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (rows(1) + b"2,x\n", "a ragged row"),
        (rows(1) + b"2,x,40,,1,more\n", "a ragged row"),
        ((HEADER + "1,ä,40,,1\n").encode("latin-1"), "not UTF-8"),
        (rows(1).replace(b",", b";"), "a single column"),
        (b"id,id\n1,2\n", "2 times"),
    ],
)
def test_a_bad_table_is_named_by_its_address(store, tmp_path, content, said):
    url = store.put("in/a.csv", content)
    with pytest.raises(SourceFormatError, match=said) as caught:
        read(url, **store.options, scratch=tmp_path)
    assert url in caught.value.headline
    assert "object-" not in str(caught.value.as_dict())
    assert str(tmp_path) not in str(caught.value.as_dict())
    assert list(tmp_path.iterdir()) == []


def test_objects_with_other_columns_are_refused(store):
    store.put("in/a.csv", rows(1))
    store.put("in/b.csv", b"id,y\n1,1\n")
    with pytest.raises(SourceFormatError, match=r"in/b\.csv has other columns than s3://.*/in/a\.csv"):
        ids(store, "in")


def test_a_damaged_parquet_is_named(store):
    url = store.put("a.parquet", b"PAR1 nothing PAR1")
    with pytest.raises(SourceFormatError, match=f"{url} is not readable as Parquet"):
        ids(store, "a.parquet")


def test_a_bom_and_another_delimiter(store):
    store.put("a.csv", b"\xef\xbb\xbf" + rows(1, 2).replace(b",", b"|"))
    assert ids(store, "a.csv", csv_delimiter="|") == [1, 2]


@pytest.mark.parametrize("happening", ["is replaced", "goes away", "is joined"])
def test_an_object_that_changes_while_it_is_read_is_noticed(store, happening):
    for name in "ab":
        store.put(f"in/{name}.csv", rows(*range(50)))
    batches = open_source(f"{store.url}/in", ReadOptions(**store.options, batch_rows=10)).batches(CUSTOMERS)
    next(batches)
    if happening == "is replaced":
        store.put("in/b.csv", rows(*range(1, 51)))
    elif happening == "goes away":
        store.client.delete_object(Bucket=store.name, Key="in/b.csv")
    else:
        store.put("in/c.csv", rows(1))
    with pytest.raises(SourceFormatError, match="changed while it was being read"):
        list(batches)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("s3://no-such-bucket-here/a.csv", NotFoundError),
        ("s3://{}/absent.csv", NotFoundError),
        ("s3://{}/text", NotFoundError),
        ("s3://{}/empty", SourceFormatError),
        ("s3://{}/mixed", SettingsError),
        ("s3://", SettingsError),
        ("s3://{}/[z-a].csv", SettingsError),
        ("s3://key:geheim@{}/a", SettingsError),
    ],
)
def test_what_cannot_be_read(store, url, kind):
    for key in ("mixed/a.csv", "mixed/a.parquet", "text/a.txt"):
        store.put(key, b"x")
    store.put("empty/a.csv", b"")
    with pytest.raises(kind) as caught:
        read(url.format(store.name), **store.options)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert "geheim" not in str(caught.value.as_dict())


def test_nobody_is_logged_in(store, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CredentialsError, match="Nobody is logged in"):
        ids(store, "a.csv")


# --- Faults: a server that lists one object and answers as a script says --------------------------------------------

_BODY = rows(*range(20_000))
_LISTING = (
    "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a.csv</Key>"
    f"<Size>{len(_BODY)}</Size><ETag>&quot;e1&quot;</ETag></Contents></ListBucketResult>"
)


class Scripted(BaseHTTPRequestHandler):
    """``script`` has what happens to the next requests for the object: a status, or "cut", or "hang"."""

    protocol_version = "HTTP/1.1"
    script: list
    listing: list
    ranges: list
    released: threading.Event

    def do_GET(self):
        if "list-type" in self.path:
            status, code = self.listing.pop(0) if self.listing else (200, "")
            self.reply(status, error(code) if code else _LISTING.encode())
            return
        self.ranges.append(self.headers["Range"])
        assert self.headers["If-Match"] == '"e1"'
        step = self.script.pop(0) if self.script else 200
        if isinstance(step, tuple):
            self.reply(step[0], error(step[1]))
            return
        if step == "hang":
            self.released.wait(60)
            self.close_connection = True
            return
        start = int((self.headers["Range"] or "bytes=0-")[6:-1])
        more = {"Content-Range": f"bytes {start}-{len(_BODY) - 1}/{len(_BODY)}"} if start else {}
        self.reply(206 if start else 200, _BODY[start:], 100_000 if step == "cut" else None, **more)

    def reply(self, status, body, most=None, **more):
        self.send_response(status)
        for name, value in {"ETag": '"e1"', "Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:most])
        self.close_connection = most is not None

    def log_message(self, *_):
        pass


def error(code):
    return f"<Error><Code>{code}</Code><Message>said {code}</Message><RequestId>1</RequestId></Error>".encode()


@contextmanager
def scripted(script=(), listing=()):
    state = {"script": list(script), "listing": list(listing), "ranges": [], "released": threading.Event()}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Scripted,), state)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server, state
        finally:
            state["released"].set()
            server.shutdown()
            thread.join()


def read_from(server, **remote):
    patience = {"connect_timeout": 10, "read_timeout": 3, "attempts": 3, **remote}
    end = S3Settings(endpoint_url=f"http://127.0.0.1:{server.server_port}", path_style=True)
    batches = read("s3://bucket/a.csv", s3=end, remote=RemoteSettings(**patience))
    return [int(i) for batch in batches for i in batch["id"]]


@pytest.mark.parametrize(
    "script", [["cut"], ["cut", "cut"], ["hang"], [(503, "SlowDown")], [(500, "InternalError"), "cut"]]
)
def test_a_passing_fault_loses_and_doubles_no_row(aws_login, script):
    with scripted(script) as (server, state):
        assert read_from(server) == list(range(20_000))
        cuts = [f"bytes={100_000 * (n + 1)}-" for n in range(script.count("cut"))]
        assert [one for one in state["ranges"] if one] == cuts  # it goes on where it broke off


@pytest.mark.parametrize("step", ["cut", "hang", (503, "SlowDown"), (500, "InternalError")])
def test_a_lasting_fault_is_unreachable(aws_login, step):
    with scripted([step] * 20) as (server, _), pytest.raises(UnreachableError) as caught:
        read_from(server, attempts=2)
    assert caught.value.exit_code == 6
    assert caught.value.hint


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", CredentialsError),
        (403, "SignatureDoesNotMatch", CredentialsError),
        (403, "InvalidAccessKeyId", CredentialsError),
        (400, "ExpiredToken", CredentialsError),
        (403, "RequestTimeTooSkewed", CredentialsError),
        (403, "InvalidObjectState", CredentialsError),
        (412, "PreconditionFailed", SourceFormatError),
        (404, "NoSuchKey", SourceFormatError),
    ],
)
def test_an_object_that_is_refused(aws_login, status, code, kind):
    with scripted([(status, code)] * 3) as (server, _), pytest.raises(kind) as caught:
        read_from(server)
    assert caught.value.hint
    assert "test-secret" not in str(caught.value.as_dict())


def test_a_bucket_that_may_not_be_listed(aws_login):
    with scripted(listing=[(403, "AccessDenied")]) as (server, _), pytest.raises(CredentialsError, match="permit"):
        read_from(server)


def test_nobody_listens(aws_login):
    end = S3Settings(endpoint_url=f"http://127.0.0.1:{free_port()}", path_style=True)
    with pytest.raises(UnreachableError, match="does not answer"):
        read("s3://bucket/a.csv", s3=end, remote=RemoteSettings(connect_timeout=1, attempts=1))


def test_probe_of_a_way_that_is_free(store):
    store.put("in/a.csv", rows(1))
    found = {check.name: check for check in s3.probe(f"{store.url}/in", ReadOptions(**store.options))}
    assert list(found) == list(s3.CHECKS)
    assert {check.verdict for check in found.values()} <= {"ok", "skipped"}
    assert "1 objects" in found["permission to list"].found


def test_probe_stops_where_the_way_ends(store):
    last = list(s3.probe(f"{store.url}/absent", ReadOptions(**store.options)))[-1]
    assert (last.name, last.verdict, last.exit_code) == ("permission to list", "failed", 6)
    assert last.mend
