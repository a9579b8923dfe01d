"""What an evaluation holds: metrics, money, slices, what the gate asked and said. A report needs nothing else.

Fields that came later have a default, so that the artifacts of an older vehins can still be read. A None is always a
value that could not be computed, never a good one.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vehins.artifacts.drift import Drift
from vehins.artifacts.record import Record

CURVES_FILE = "curves.json"


class Metrics(Record):
    """How well a model ranks and predicts the test side; flat, because a registered version carries it along."""

    auc: float
    auc_low: float
    auc_high: float
    average_precision: float
    average_precision_low: float | None = None
    average_precision_high: float | None = None
    log_loss: float
    log_loss_low: float | None = None
    log_loss_high: float | None = None
    brier: float
    brier_low: float | None = None
    brier_high: float | None = None
    ks: float | None = Field(
        default=None, description="Kolmogorov-Smirnov: the widest gap between the score distributions of the classes."
    )
    expected_calibration_error: float | None = Field(
        default=None, description="Mean distance between probability and observed rate over 20 bins of equal count."
    )
    calibration_chance: float | None = Field(
        default=None, description="What that error stays below by chance when every probability is true."
    )
    rows: int
    positives: int


class Gain(Record):
    """What a list of the best customers catches."""

    share: float = Field(description="Share of all customers that are on the list, as asked for.")
    customers: int = Field(description="Customers on the list.")
    cutoff: float = Field(description="Probability of the last customer on the list.")
    positives: float = Field(
        description="Positives on the list; customers of equal probability at its end count by their mean."
    )
    recall: float = Field(description="Share of all positives that are on the list (the gain).")
    precision: float = Field(description="Share of the list that is positive.")
    lift: float = Field(description="Precision over the base rate.")


class CalibrationBin(Record):
    """Customers of similar probability, and how many of them were positive."""

    rows: int
    positives: int
    mean_probability: float
    observed_rate: float
    low: float = Field(description="Lower end of Wilson's interval around the observed rate.")
    high: float = Field(description="Upper end of it.")


class SliceComparison(Record):
    """Challenger minus champion on one slice."""

    champion_auc: float
    auc_difference: float = Field(description="AUC of the challenger minus AUC of the champion.")
    standard_error: float = Field(description="DeLong's, paired.")
    bound: float = Field(
        description="What the difference must reach: what chance explains, over all slices together with the gate's "
        "confidence, and the margin where there is one."
    )


class Slice(Record):
    """The model on some of the customers. What so few customers cannot tell is null, with the reason."""

    column: str
    slice: str = Field(description="The value, or the range of values, that these customers share.")
    rows: int
    positives: int
    mean_probability: float | None
    observed_rate: float | None
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    log_loss: float | None = None
    expected_calibration_error: float | None = None
    reason: str | None = Field(default=None, description="Why there is no AUC.")
    comparison: SliceComparison | None = Field(default=None, description="Against the champion, where there is one.")


class Campaign(Record):
    """A list of customers to call, and what calling them brings."""

    customers: float
    share: float = Field(description="Share of all customers.")
    sales: float = Field(description="Positives on the list.")
    profit: float = Field(description="sale_value x sales - contact_cost x customers.")
    profit_low: float | None = Field(default=None, description="Lower end of its confidence interval.")
    profit_high: float | None = Field(default=None, description="Upper end of it.")


class Profit(Record):
    """What the model is worth on the test side, in the currency of the settings."""

    contact_cost: float
    sale_value: float
    capacity: int | None = Field(description="Customers of the data set that can be called; null for all.")
    capacity_here: int = Field(description="That many customers of the test side.")
    cutoff: float = Field(description="The bundle's cutoff, chosen on the valid side: at or above it, a customer pays.")
    model: Campaign = Field(description="Those at or above the cutoff, the best first, until the capacity is used up.")
    random: Campaign = Field(description="As many customers, drawn at random: what to expect.")
    everybody: Campaign = Field(description="All customers, whatever the capacity.")
    nobody: Campaign
    best: Campaign = Field(description="The most profitable list, known only afterwards; within the capacity.")
    best_cutoff: float | None = Field(description="Its cutoff; null when the best is to call nobody.")


class Integrity(Record):
    """Whether the rows that were scored are the very rows that the data set has on its test side."""

    keyed: bool = Field(default=True, description="Whether rows have a key; without one, equal rows fall together.")
    rows: int = Field(description="Rows scored.")
    expected_rows: int = Field(description="Test rows of the data set minus those in quarantine.")
    digest_matches: bool | None = Field(
        description="Whether these rows and those in quarantine have the digest that ingest took of the test side; "
        "null when it took none."
    )
    duplicated_keys: int = Field(description="Rows whose key stands in another row as well.")
    misplaced_rows: int = Field(description="Rows that the hash of their key puts on another side.")
    unjustified_rows: int = Field(default=0, description="Rows in quarantine that break no rule of the schema.")
    share: float | None = Field(description="Share of all rows that the data set has on its test side.")
    expected_share: float = Field(description="The share that the settings of the split ask for.")
    share_z: float | None = Field(description="How many standard errors lie between the two.")
    base_rate: float = Field(description="Share of positives among the rows scored.")
    other_base_rate: float | None = Field(description="Share of positives on the other sides.")
    base_rate_z: float | None = Field(description="How many standard errors lie between the two.")


class Champion(Record):
    """The registered version that a challenger was compared with, on the same rows."""

    version: int
    bundle: str
    metrics: Metrics
    auc_difference: float = Field(description="AUC of the challenger minus AUC of the champion.")
    auc_difference_low: float = Field(description="One-sided lower confidence bound of that (DeLong, paired).")
    gains: list[Gain] = Field(default_factory=list)
    calibration: list[CalibrationBin] = Field(default_factory=list)
    profit: Profit | None = None


class Rule(Record):
    """One rule of the gate, judged."""

    name: str
    value: float | None = Field(description="What was found; null when it could not be computed, which never passes.")
    bound: float
    verdict: Literal["pass", "fail"]
    sentence: str


class EvaluationResult(Record):
    """A model's metrics on rows that it has never seen, and the gate's verdict."""

    bundle: str = Field(description="Digest of the bundle that was judged.")
    confidence: float = Field(description="Confidence of the intervals around the metrics.")
    metrics: Metrics = Field(description="Metrics on the test side, with intervals.")
    gains: list[Gain] = Field(default_factory=list, description="Lists of the best 5, 10, 20, 30 and 50%.")
    calibration: list[CalibrationBin] = Field(
        default_factory=list, description="20 bins of equal count, lowest probability first."
    )
    slices: list[Slice] = Field(default_factory=list, description="By the columns that the schema marks with `slice`.")
    profit: Profit | None = Field(default=None, description="What the model's list brings, and what others would.")
    drift: Drift | None = Field(
        default=None, description="The rows of today against the champion's training rows; null without a champion."
    )
    integrity: Integrity | None = Field(default=None, description="That the test side is as it was ingested.")
    champion: Champion | None = Field(description="The champion on the same rows; null without one.")
    rules: list[Rule] = Field(description="Rules of the gate: value, bound, verdict and a sentence.")
    verdict: Literal["accept", "refuse"] = Field(description="Whether the gate accepts the model.")
    approved: str | None = Field(default=None, description="Reason of the person who overruled a refusal.")


# --- Curves, in a file of their own ----------------------------------------------------------------------------------


class Curve(Record):
    """Points of a curve, in order; at most a few hundred of them."""

    x: list[float]
    y: list[float]


class Histogram(Record):
    """How many customers of each class have a probability in each of some ranges."""

    edges: list[float] = Field(description="One more than there are ranges; each holds its lower edge.")
    negatives: list[int]
    positives: list[int]


class ModelCurves(Record):
    """The curves of one model on the test side."""

    bundle: str
    version: int | None = Field(description="Registered version; null for a challenger.")
    roc: Curve = Field(description="x: false positive rate, y: true positive rate.")
    precision_recall: Curve = Field(description="x: recall, y: precision.")
    gains: Curve = Field(description="x: share of customers called, best first; y: share of positives caught.")
    profit: Curve = Field(description="x: share of customers called, best first; y: profit.")
    histogram: Histogram


class Curves(Record):
    """The file `curves.json` of an Evaluation."""

    curves_version: Literal[1] = 1
    challenger: ModelCurves
    champion: ModelCurves | None = None
