{{/* Rules that policies share. */}}
{{- define "holdfast.policy.dns" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end -}}

{{/* Egress to ports, wherever they are. */}}
{{- define "holdfast.policy.to" -}}
- ports:
    {{- range . }}
    - port: {{ int . }}
    {{- end }}
{{- end -}}

{{- define "holdfast.policy.peer" -}}
- podSelector:
    matchLabels:
      {{- include "holdfast.selector" . | nindent 6 }}
{{- end -}}

{{- define "holdfast.policy.toWorkers" -}}
- ports:
    - port: 7071
  to:
    {{- include "holdfast.policy.peer" (dict "root" . "component" "worker") | nindent 4 }}
    {{- with .Values.networkPolicy.otherReleases }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
