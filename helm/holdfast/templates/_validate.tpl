{{/* What would not work, though each value alone is well-formed. */}}
{{- define "holdfast.validate" -}}
{{- include "holdfast.validate.shards" . -}}
{{- include "holdfast.validate.stopping" . -}}
{{- if and (not .Values.etcd.endpoints) (not .Values.dev.enabled) -}}
{{- fail "etcd.endpoints: give at least one, as https://host:port; dev.enabled=true brings an etcd for trying out" -}}
{{- end -}}
{{- if .Values.insecure -}}
{{- range $i, $endpoint := .Values.etcd.endpoints -}}
{{- if hasPrefix "https:" $endpoint -}}
{{- fail (printf "etcd.endpoints[%d]: %s speaks TLS, which insecure=true does without" $i $endpoint) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- include "holdfast.validate.tls" . -}}
{{- include "holdfast.validate.auth" . -}}
{{- end -}}
{{- with .Values.coordinator.autoscaling -}}
{{- if and .enabled (not (dig "requests" "cpu" "" ($.Values.coordinator.resources | default dict))) -}}
{{- fail "coordinator.autoscaling.enabled: needs coordinator.resources.requests.cpu, of which it is a percentage" -}}
{{- end -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "coordinator.autoscaling.minReplicas: %d is more than maxReplicas, %d" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.shards" -}}
{{- if not .Values.shards -}}
{{- fail "shards: give at least one, as {name: eu, existingSecret: {name: …, key: …}}" -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $i, $shard := .Values.shards -}}
{{- $name := toString $shard.name -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$" $name) -}}
{{- fail (printf "shards[%d].name: %q is not 1 to 32 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'" $i $name) -}}
{{- end -}}
{{- $variable := include "holdfast.shard.variable" $shard -}}
{{- if hasKey $seen $variable -}}
{{- fail (printf "shards[%d].name: %q is shards[%d] already, both would be %s" $i $name (int (get $seen $variable)) $variable) -}}
{{- end -}}
{{- $_ := set $seen $variable $i -}}
{{- if and $shard.parameters (not $shard.existingSecret) -}}
{{- fail (printf "shards[%d].parameters: are for the DSN of an existingSecret, which shard %s does not have" $i $name) -}}
{{- end -}}
{{- if and $shard.dsn $shard.existingSecret -}}
{{- fail (printf "shards[%d]: shard %s has both dsn and existingSecret, give one of them" $i $name) -}}
{{- end -}}
{{- if not (or $shard.dsn $shard.existingSecret $.Values.dev.enabled) -}}
{{- fail (printf "shards[%d]: shard %s has neither existingSecret nor dsn; dev.enabled=true brings a database for trying out" $i $name) -}}
{{- end -}}
{{- end -}}
{{- if not (include "holdfast.topology" .) -}}
{{- fail "shards: all are spare, and a topology needs one that is not" -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.validate.stopping" -}}
{{- range $component := list "coordinator" "worker" -}}
{{- $values := include "holdfast.component" (dict "root" $ "component" $component) | fromJson -}}
{{- $grace := int $values.terminationGracePeriodSeconds -}}
{{- $preStop := int $values.preStopSeconds -}}
{{- $drain := int (include "holdfast.seconds" $values.drainTimeout) -}}
{{- if le $grace (add $preStop $drain | int) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds: %d is not more than preStopSeconds and drainTimeout, %d+%d: calls under way would be cut off" $component $grace $preStop $drain) -}}
{{- end -}}
{{- if eq $component "worker" -}}
{{- $ttl := int (include "holdfast.seconds" $values.lockTTL) -}}
{{- if gt $ttl $grace -}}
{{- fail (printf "worker.lockTTL: %s is longer than worker.terminationGracePeriodSeconds, %d: products of a worker that cannot be probed would stay locked after Kubernetes has stopped and replaced it" $values.lockTTL $grace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whatever speaks must be able to prove who it is. */}}
{{- define "holdfast.validate.tls" -}}
{{- $or := "; insecure=true does without TLS and authentication, for trying out" -}}
{{- if not .Values.tls.server.existingSecret -}}
{{- fail (printf "tls.server.existingSecret: name the Secret with the certificate that clients see%s" $or) -}}
{{- end -}}
{{- range $component, $peer := .Values.tls.peer -}}
{{- if not $peer.existingSecret -}}
{{- fail (printf "tls.peer.%s.existingSecret: name the Secret with the certificate for holdfast-%s%s" $component $component $or) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.tls.peer.worker.existingSecret .Values.tls.peer.coordinator.existingSecret -}}
{{- fail "tls.peer.worker.existingSecret: is that of coordinators too, which must not be able to pass for workers" -}}
{{- end -}}
{{- range $i, $endpoint := .Values.etcd.endpoints -}}
{{- if not (hasPrefix "https://" $endpoint) -}}
{{- fail (printf "etcd.endpoints[%d]: %s is not https://…%s" $i $endpoint $or) -}}
{{- end -}}
{{- end -}}
{{- $dev := and .Values.dev.enabled (not .Values.etcd.endpoints) -}}
{{- range $i, $shard := .Values.shards -}}
{{- if include "holdfast.dev.brings" (dict "root" $ "shard" $shard) -}}
{{- $dev = true -}}
{{- else if and $shard.dsn (not (contains "sslmode=verify-full" $shard.dsn)) -}}
{{- fail (printf "shards[%d].dsn: must say sslmode=verify-full%s" $i $or) -}}
{{- end -}}
{{- end -}}
{{- if and $dev (not .Values.dev.tls.existingSecret) -}}
{{- fail (printf "dev.tls.existingSecret: name the Secret with the certificate of the etcd and the databases that dev.enabled brings%s" $or) -}}
{{- end -}}
{{- end -}}

{{/* There must be some way to log in. */}}
{{- define "holdfast.validate.auth" -}}
{{- with .Values.auth -}}
{{- if and .oidc.issuer (not .oidc.audience) -}}
{{- fail "auth.oidc.audience: is required with auth.oidc.issuer, or tokens for others would be taken" -}}
{{- end -}}
{{- if not .oidc.issuer -}}
{{- if or .oidc.audience .oidc.keys.existingSecret.name .oidc.ca.existingSecret.name -}}
{{- fail "auth.oidc.issuer: is required with the other values of auth.oidc" -}}
{{- end -}}
{{- if not .tokens.existingSecret.name -}}
{{- fail "auth.oidc.issuer: name who issues tokens, or auth.tokens.existingSecret with static ones; insecure=true does without TLS and authentication, for trying out" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
