{{/* The container that migrates, of (dict "root" $ "secret" NAME). */}}
{{- define "holdfast.migrate.container" -}}
{{- $values := include "holdfast.component" (dict "root" .root "component" "migrate") | fromJson -}}
{{- include "holdfast.container" (dict "root" .root "values" $values) }}
args:
  - migrate
  - --shards={{ include "holdfast.topology" .root }}
  {{- with $values.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- include "holdfast.env.etcd" .root | nindent 2 }}
  {{- include "holdfast.env.shards" (dict "root" .root "secret" .secret "spare" false) | trim | nindent 2 }}
  {{- with include "holdfast.env.memory" $values }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with include "holdfast.mounts" (dict "root" .root "component" "migrate") | trim }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Whether migrations are a hook. */}}
{{- define "holdfast.migrate.hook" -}}
{{- if and .Values.migrate.enabled (not .Values.dev.enabled) -}}true{{- end -}}
{{- end -}}

{{/* What the Job needs before the release's own objects are there. Helm deletes it when the
hooks are through. */}}
{{- define "holdfast.migrate.hookAnnotations" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: "-10"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
