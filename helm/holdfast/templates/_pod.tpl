{{/* What all pods of holdfast have in common, of (dict "root" $ "component" NAME "values" VALUES). */}}
{{- define "holdfast.pod.metadata" -}}
labels:
  {{- include "holdfast.selector" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "holdfast.pod.spec" -}}
automountServiceAccountToken: false
# Every variable HOLDFAST_… is a setting, and Kubernetes would make some of Services' names.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Constraints that name no pods are for those of the component, and of the same revision:
if an upgrade counted the pods that it replaces, all new ones could come to one node. */}}
{{- define "holdfast.pod.spread" -}}
{{- $constraints := list -}}
{{- $revision := ternary "controller-revision-hash" "pod-template-hash" (eq .component "worker") -}}
{{- range .values.topologySpreadConstraints -}}
{{- $selector := dict "matchLabels" (include "holdfast.selector" $ | fromYaml) -}}
{{- $own := deepCopy . -}}
{{- if not .labelSelector -}}
{{- $own = merge $own (dict "labelSelector" $selector "matchLabelKeys" (list $revision)) -}}
{{- end -}}
{{- $constraints = append $constraints $own -}}
{{- end -}}
{{- with $constraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
  {{- else }}
  # Zones, as far as there are some. A constraint would do nothing for nodes without a zone, and
  # neither would the one for hosts beside it.
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: topology.kubernetes.io/zone
          labelSelector:
            matchLabels:
              {{- include "holdfast.selector" . | nindent 14 }}
  {{- end }}
{{- end -}}

{{/* The image and what its container may do: nothing but run. */}}
{{- define "holdfast.container" -}}
image: {{ include "holdfast.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- with .values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Flags of all servers. */}}
{{- define "holdfast.args" -}}
# Without TLS, which Kubernetes' probes do not speak, and with nothing else on it.
- --health-listen=0.0.0.0:7072
{{- with .root.Values.region }}
- --region={{ . }}
{{- end }}
- --log-level={{ .values.logLevel }}
{{- if .values.logJSON }}
- --log-json
{{- end }}
{{- with .values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where etcd is. As variables they are there too for commands that are run in the pod. */}}
{{- define "holdfast.env.etcd" -}}
- name: HOLDFAST_ETCD
  {{- if .Values.etcd.endpoints }}
  value: {{ join "," .Values.etcd.endpoints | quote }}
  {{- else }}
  value: {{ ternary "" "https://" .Values.insecure }}{{ include "holdfast.dev.name" . }}-etcd:2379
  {{- end }}
- name: HOLDFAST_PREFIX
  value: {{ .Values.etcd.prefix | quote }}
{{- include "holdfast.env.etcdSecurity" . }}
{{- end -}}

{{/* The shards' DSNs, of (dict "root" $ "secret" NAME "spare" BOOL): where those of the values
are, and whether spare shards are among them. */}}
{{- define "holdfast.env.shards" -}}
{{- range .root.Values.shards }}
{{- if or $.spare (not .spare) }}
{{- $variable := include "holdfast.shard.variable" . }}
{{- $secret := ternary (replace "HOLDFAST_" "SECRET_" $variable) $variable (not (empty .parameters)) }}
- name: {{ $secret }}
  valueFrom:
    secretKeyRef:
      {{- if .existingSecret }}
      name: {{ .existingSecret.name }}
      key: {{ .existingSecret.key }}
      {{- else if .dsn }}
      name: {{ $.secret }}
      key: {{ .name }}
      {{- else }}
      name: {{ include "holdfast.dev.name" $.root }}-dev
      key: {{ .name }}
      {{- end }}
{{- with .parameters }}
- name: {{ $variable }}
  value: {{ printf "$(%s)?%s" $secret . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "holdfast.shard.variable" -}}
HOLDFAST_SHARD_{{ .name | upper | replace "-" "_" }}
{{- end -}}

{{/* Has the garbage collector work harder before the container is killed for its memory. How
many threads run, Go finds out by itself. */}}
{{- define "holdfast.env.memory" -}}
{{- if dig "limits" "memory" "" (.resources | default dict) -}}
- name: GOMEMLIMIT
  valueFrom:
    resourceFieldRef:
      resource: limits.memory
      divisor: "1"
{{- end }}
{{- end -}}

{{/* The DSNs that are given as values, of (dict "root" $ "spare" BOOL). */}}
{{- define "holdfast.dsns" -}}
{{- range .root.Values.shards }}
{{- if and .dsn (or $.spare (not .spare)) }}
{{ .name }}: {{ .dsn | quote }}
{{- end }}
{{- end }}
{{- end -}}
