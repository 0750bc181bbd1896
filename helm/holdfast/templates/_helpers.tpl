{{/* The release's full name. 40 characters leave room for what is put behind it: a
StatefulSet's name with the hash of its revision is a label, of 63 at most. */}}
{{- define "holdfast.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What pods are selected by, of (dict "root" $ "component" NAME). */}}
{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/part-of: holdfast
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "holdfast.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.serviceAccount" -}}
{{- $account := .Values.serviceAccount -}}
{{- default (ternary (include "holdfast.fullname" .) "default" $account.create) $account.name -}}
{{- end -}}

{{/* A component's values as JSON, with the shared ones where it has none of its own. */}}
{{- define "holdfast.component" -}}
{{- $own := deepCopy (get .root.Values .component) -}}
{{- range $key, $shared := .root.Values.defaults -}}
{{- $value := get $own $key -}}
{{- if or (not (hasKey $own $key)) (kindIs "invalid" $value) -}}
{{- $_ := set $own $key $shared -}}
{{- else if has $key (list "podAnnotations" "podLabels") -}}
{{- $_ := set $own $key (merge $value $shared) -}}
{{- else if eq $key "extraEnv" -}}
{{- $_ := set $own $key (concat $shared $value) -}}
{{- end -}}
{{- end -}}
{{- toJson $own -}}
{{- end -}}

{{/* A duration of Go in seconds, rounded down. */}}
{{- define "holdfast.seconds" -}}
{{- $epoch := toDate "2006-01-02" "2000-01-01" -}}
{{- sub ($epoch | dateModify . | unixEpoch) ($epoch | unixEpoch) -}}
{{- end -}}

{{/* The names of the shards that the topology has, or will have: all but the spare ones. */}}
{{- define "holdfast.topology" -}}
{{- $names := list -}}
{{- range .Values.shards -}}
{{- if not .spare -}}{{- $names = append $names .name -}}{{- end -}}
{{- end -}}
{{- join "," $names -}}
{{- end -}}

{{- define "holdfast.coordinator.address" -}}
{{ include "holdfast.fullname" . }}-coordinator.{{ .Release.Namespace }}.svc:7070
{{- end -}}

{{/* Names of what dev.enabled brings. With the name of a shard, 32 characters at most, they
have 63 at most. */}}
{{- define "holdfast.dev.name" -}}
{{ include "holdfast.fullname" . | trunc 21 | trimSuffix "-" }}
{{- end -}}

{{- define "holdfast.dev.postgres" -}}
{{ include "holdfast.dev.name" .root }}-postgres-{{ .shard }}
{{- end -}}

{{/* Whether dev.enabled brings the database of a shard, of (dict "root" $ "shard" SHARD). */}}
{{- define "holdfast.dev.brings" -}}
{{- if and .root.Values.dev.enabled (not .shard.dsn) (not .shard.existingSecret) -}}true{{- end -}}
{{- end -}}
