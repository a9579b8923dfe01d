#!/bin/bash
# The runner calls this before each job, and a job that it fails has no first step. Whoever opens a pull request in a public
# repository can write a workflow that names this machine; it takes jobs of one workflow, as main has it.
set -u
wanted="${GITHUB_REPOSITORY:-?}/.github/workflows/deploy.yml@refs/heads/main"
if [ "${GITHUB_WORKFLOW_REF:-}" != "$wanted" ]; then
  echo "This machine takes jobs of $wanted alone, and this one is of ${GITHUB_WORKFLOW_REF:-an unknown workflow}." >&2
  exit 1
fi
