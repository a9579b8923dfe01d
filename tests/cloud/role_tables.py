"""The roles of the template as tables: what each may do, and on what; docs/cloud.md shows them."""

from __future__ import annotations

from typing import Any

from stack_words import parsed

ROLES = {"BoxRole": "The box", "CiRole": "Deployments", "RetrainRole": "Retraining"}
# Why an action is allowed on every resource; AWS offers none to name, or the condition does.
REASONS = {
    "ecr:GetAuthorizationToken": "a login is to the registry as a whole: AWS knows no resource for it",
    "ssm:GetCommandInvocation": "AWS knows no resource for it; the id of a command is a random one",
    "cloudwatch:PutMetricData": "AWS knows no resource for it; the condition allows the namespace of the stack alone",
    "ec2messages:AcknowledgeMessage": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ec2messages:DeleteMessage": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ec2messages:FailMessage": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ec2messages:GetEndpoint": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ec2messages:GetMessages": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ec2messages:SendReply": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ssm:UpdateInstanceInformation": "the agent tells of itself; its own instance would make a circle in the template",
    "ssmmessages:CreateControlChannel": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ssmmessages:CreateDataChannel": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ssmmessages:OpenControlChannel": "the agent's channel to Systems Manager; AWS's own policy has it so too",
    "ssmmessages:OpenDataChannel": "the agent's channel to Systems Manager; AWS's own policy has it so too",
}


def statements(role: str, tree: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The statements of all policies of a role, those under a condition of the template too."""
    resource = (tree or parsed())["Resources"][role]["Properties"]
    assert "ManagedPolicyArns" not in resource, "a policy of AWS's may do more than it says"
    found = []
    for policy in resource["Policies"]:
        given = policy["Fn::If"][1] if "Fn::If" in policy else policy
        found += given["PolicyDocument"]["Statement"]
    return found


def rights(role: str, tree: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """Each action of a role with each of its resources."""
    return sorted(
        (action, resource)
        for statement in statements(role, tree)
        for action in as_list(statement["Action"])
        for resource in map(readable, as_list(statement["Resource"]))
    )


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def readable(resource: Any) -> str:
    """A resource without region and account: `s3 BUCKET/registry/*`."""
    if "Fn::GetAtt" in resource:
        return {"Images": "ecr repository STACK"}[resource["Fn::GetAtt"][0]]
    if isinstance(resource, str):
        return resource
    text = resource["Fn::Sub"]
    text = text[0] if isinstance(text, list) else text
    text = text.replace("${Name}", "BUCKET").replace("${AWS::StackName}", "STACK")
    text = text.replace("${DeployDocument}", "DEPLOY-DOCUMENT").replace("${Instance}", "BOX")
    for name, value in {"Partition": "aws", "Region": "", "AccountId": ""}.items():
        text = text.replace(f"${{AWS::{name}}}", value)
    _, _, service, _, _, rest = text.split(":", 5)
    return f"{service} {rest}"


def table(role: str) -> str:
    """The rights of a role, as docs/cloud.md shows them."""
    resources: dict[str, list[str]] = {}
    for action, resource in rights(role):
        resources.setdefault(action, []).append(resource)
    lines = ["| action | on |", "| --- | --- |"]
    for action, found in resources.items():
        shown = ", ".join(f"`{one}`" for one in found)
        lines.append(f"| `{action}` | {shown if found != ['*'] else f'`*`: {REASONS[action]}'} |")
    return "\n".join(lines)
