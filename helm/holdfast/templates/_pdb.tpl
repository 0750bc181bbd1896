{{/* The disruption budget of (dict "root" $ "component" NAME "replicas" N). A single pod would
only be kept on its node by one. */}}
{{- define "holdfast.pdb" -}}
{{- $budget := (get .root.Values .component).podDisruptionBudget }}
{{- if and $budget.enabled (gt (int .replicas) 1) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "holdfast.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "holdfast.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $budget.maxUnavailable }}
  # A pod that is broken anyway is no reason to keep its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "holdfast.selector" . | nindent 6 }}
{{- end }}
{{- end -}}
