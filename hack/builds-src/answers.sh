# What the images of hack/builds say, and at which port. Sourced.
# shellcheck shell=bash disable=SC2034
declare -A port=([node]=3000 [python]=8000 [rust]=8080 [site]=80)
declare -A says=([node]="node says production" [python]="python says web" [rust]="rust says" [site]="nginx says page")
